import { constants } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import type { Config } from '../../config.ts';
import { findPostgresBinaries } from '../../db/embedded-binaries.ts';
import { loadMigrations } from '../../db/migrate.ts';
import { createLogger } from '../../kernel/logger.ts';
import { StartupError } from '../../kernel/startup-error.ts';
import { fetchReadiness, UnreachableError } from '../api-client.ts';
import { CommandError } from '../command-error.ts';
import { openDatabaseOnly } from '../database-only.ts';

/** What a check found. `note`: worth knowing, and no failure. */
export interface Finding {
  result: 'ok' | 'note' | 'failed';
  subject: string;
  text: string;
}

const OLDEST_NODE_MAJOR = 26;

/** `version` as in `process.versions.node`. */
export function checkNode(version: string): Finding {
  return Number.parseInt(version, 10) >= OLDEST_NODE_MAJOR
    ? ok('node', version)
    : failed('node', `${version}; ${OLDEST_NODE_MAJOR} or later is needed, which "npx posthorn" brings along`);
}

/** The folder can be used, or made; what it keeps secret is closed to others. */
export async function checkDataDirectory(dataDir: string): Promise<Finding> {
  const subject = 'data';
  const existing = await nearestExisting(dataDir);
  try {
    if (!(await stat(existing)).isDirectory()) return failed(subject, `${existing} is not a directory`);
    await access(existing, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    return failed(subject, `${existing} cannot be written (${codeOf(error)}): run as the user who owns it`);
  }
  if (existing !== dataDir) return ok(subject, `${dataDir} will be made at the first start`);
  for (const name of ['operator.key', 'encryption.key']) {
    const mode = await modeOf(path.join(dataDir, name));
    if (mode !== undefined && (mode & 0o077) !== 0) {
      return failed(subject, `${path.join(dataDir, name)} can be read by other users: chmod 600 it`);
    }
  }
  return ok(subject, dataDir);
}

/** PostgreSQL stops writing on a full disk; a segment of its log alone takes 16 MB. */
export async function checkDisk(dataDir: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(await nearestExisting(dataDir));
  const freeBytes = bavail * bsize;
  const text = `${(freeBytes / 1_000_000_000).toFixed(1)} GB free for the data folder`;
  if (freeBytes < 200_000_000) return failed('disk', `${text}; at least 0.2 GB is needed`);
  return freeBytes < 2_000_000_000
    ? { result: 'note', subject: 'disk', text: `${text}; that is little` }
    : ok('disk', text);
}

export interface DatabaseCheck {
  finding: Finding;
  /** What the database's clock says, milliseconds since the epoch; undefined when it was not asked. */
  timeMs?: number;
}

/** @param serverAnswers whether a Posthorn runs, which then has the embedded database to itself. */
export async function checkDatabase(config: Config, serverAnswers: boolean): Promise<DatabaseCheck> {
  try {
    if (config.databaseUrl !== undefined) return await checkExternalDatabase(config);
    await findPostgresBinaries();
    const state = serverAnswers ? 'in use by the running server' : 'installed';
    return { finding: ok('database', `embedded PostgreSQL, ${state}`) };
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    return { finding: failed('database', error.message) };
  }
}

export interface ServerCheck {
  finding: Finding;
  /** Whether something answered at all. */
  answers: boolean;
  /** What the server's clock says, to the second; undefined when it does not say. */
  timeMs?: number;
}

/** @param mustRun whether a server that does not answer is a failure, because somebody named it. */
export async function checkServer(url: string | undefined, mustRun: boolean): Promise<ServerCheck> {
  const subject = 'server';
  if (url === undefined) {
    return {
      answers: false,
      finding: { result: 'note', subject, text: 'not asked: POSTHORN_PORT is 0 (--url names one)' },
    };
  }
  try {
    const { ready, status, date } = await fetchReadiness(url);
    const finding = ready
      ? ok(subject, `ready at ${url}`)
      : failed(subject, `${url} is not ready (it answers ${status})`);
    const timeMs = Date.parse(date ?? '');
    return { answers: true, finding, ...(!Number.isNaN(timeMs) && { timeMs }) };
  } catch (error) {
    if (error instanceof UnreachableError && !mustRun) {
      return {
        answers: false,
        finding: { result: 'note', subject, text: `not running at ${url}; "npx posthorn dev" starts it` },
      };
    }
    if (!(error instanceof CommandError)) throw error;
    return { answers: false, finding: failed(subject, error.message) };
  }
}

/** Receivers refuse signatures whose time is five minutes off (Standard Webhooks); a minute is worth repairing. */
const CLOCK_SKEW_MAX_MS = 60_000;

/** Compares this machine's clock with the others that were asked. */
export function checkClock(nowMs: number, others: { database?: number; server?: number }): Finding {
  const now = new Date(nowMs).toISOString();
  for (const [name, timeMs] of Object.entries(others)) {
    if (timeMs === undefined || Math.abs(timeMs - nowMs) <= CLOCK_SKEW_MAX_MS) continue;
    const seconds = Math.round(Math.abs(timeMs - nowMs) / 1000);
    return failed('clock', `${now} here; the ${name}'s clock is ${seconds} s ${timeMs > nowMs ? 'ahead' : 'behind'}`);
  }
  // This program was written later than that: a board without a battery has started at its epoch.
  if (nowMs < Date.UTC(2025, 0, 1)) return failed('clock', `${now} cannot be right`);
  return ok('clock', now);
}

async function checkExternalDatabase(config: Config): Promise<DatabaseCheck> {
  const storage = await openDatabaseOnly(config, createLogger('silent'));
  const client = new pg.Client({ ...storage.connection, query_timeout: 5_000, application_name: 'posthorn-doctor' });
  client.on('error', () => {
    // The query under way fails with the same reason.
  });
  await client.connect();
  try {
    return judgeDatabase(storage.description, await askDatabase(client));
  } finally {
    await client.end();
    await storage.close();
  }
}

interface DatabaseFacts {
  /** As in `server_version_num`: 150004 is 15.4. */
  serverVersion: number;
  /** 0: there is none yet. */
  schemaVersion: number;
  timeMs: number;
}

async function askDatabase(client: pg.Client): Promise<DatabaseFacts> {
  const { rows } = await client.query<{ server: number; now: Date; has_schema: boolean }>(
    `SELECT current_setting('server_version_num')::integer AS server, now() AS now,
            to_regclass('schema_migrations') IS NOT NULL AS has_schema`,
  );
  const row = rows[0];
  if (row === undefined) throw new Error('The database answered without a row.');
  return {
    serverVersion: row.server,
    schemaVersion: row.has_schema ? await schemaVersion(client) : 0,
    timeMs: row.now.getTime(),
  };
}

function judgeDatabase(description: string, facts: DatabaseFacts): DatabaseCheck {
  const { timeMs, schemaVersion } = facts;
  const newest = loadMigrations().at(-1)?.version ?? 0;
  if (facts.serverVersion < 150_000) {
    return { timeMs, finding: failed('database', `${description}; PostgreSQL 15 or later is needed`) };
  }
  if (schemaVersion > newest) {
    const text = `${description}; its schema is version ${schemaVersion}, newer than this program's ${newest}: use the newer Posthorn`;
    return { timeMs, finding: failed('database', text) };
  }
  return { timeMs, finding: ok('database', `${description}, schema version ${schemaVersion} of ${newest}`) };
}

async function schemaVersion(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ version: number | null }>(
    'SELECT max(version) AS version FROM schema_migrations',
  );
  return rows[0]?.version ?? 0;
}

async function nearestExisting(directory: string): Promise<string> {
  let at = directory;
  for (;;) {
    try {
      await stat(at);
      return at;
    } catch (error) {
      const parent = path.dirname(at);
      if (!['ENOENT', 'ENOTDIR'].includes(codeOf(error)) || parent === at) return at;
      at = parent;
    }
  }
}

async function modeOf(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).mode;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown';
}

function ok(subject: string, text: string): Finding {
  return { result: 'ok', subject, text };
}

function failed(subject: string, text: string): Finding {
  return { result: 'failed', subject, text };
}
