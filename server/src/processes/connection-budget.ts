import { ENGINE_CONNECTIONS } from '../db/pool.ts';
import { StartupError } from '../kernel/startup-error.ts';

/** Of each process beside its API pool: those of the engine, and one that listens for changes. */
const FIXED_PER_PROCESS = ENGINE_CONNECTIONS + 1;
const API_MIN = 2;
/** As in a program of one process. */
const API_MAX = 10;

/** The supervisor's own. */
export const SUPERVISOR_CONNECTIONS = 2;

/** For `psql`, `posthorn migrate` and whoever else looks in. */
const VISITORS = 8;

/** Connections that the embedded PostgreSQL must take for so many processes. */
export function connectionsFor(processes: number): number {
  return processes * (FIXED_PER_PROCESS + API_MAX) + SUPERVISOR_CONNECTIONS + VISITORS;
}

/**
 * Size of each process's API pool, so that all processes together leave some of the connections to others.
 *
 * @param available connections that the database gives to ordinary roles.
 * @throws StartupError when there are too few of them.
 */
export function apiConnectionsFor(processes: number, available: number): number {
  const share = Math.floor((available - SUPERVISOR_CONNECTIONS - VISITORS) / processes) - FIXED_PER_PROCESS;
  if (share < API_MIN) {
    const needed = processes * (FIXED_PER_PROCESS + API_MIN) + SUPERVISOR_CONNECTIONS + VISITORS;
    throw new StartupError(
      `${processes} processes need ${needed} database connections, and PostgreSQL gives ${available}: raise its max_connections, or lower POSTHORN_PROCESSES.`,
    );
  }
  return Math.min(share, API_MAX);
}
