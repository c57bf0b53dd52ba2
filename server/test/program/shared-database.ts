import { randomBytes } from 'node:crypto';
import { createTestDatabase } from '../../src/testing/database.ts';
import type { Folder } from './folder.ts';
import { queryDatabase } from './folder.ts';
import { type Arrival, type Ledger, startLedger } from './ledger.ts';
import { OPERATOR_KEY, type Server, startServer } from './server.ts';

/** A database that several nodes share, and the receiver of what they send. */
export interface SharedDatabase {
  ledger: Ledger;
  /** Starts `posthorn serve` on it. */
  startNode(env: Record<string, string>, args?: string[]): Promise<Server>;
  query<Row extends object>(sql: string): Promise<Row[]>;
  /** Numbers of the nodes that are not forgotten. */
  nodeIds(): Promise<number[]>;
  /** To be called when its nodes have ended. */
  remove(): Promise<void>;
}

export async function createSharedDatabase(folder: Folder): Promise<SharedDatabase> {
  const database = await createTestDatabase();
  const ledger = await startLedger();
  const shared = {
    POSTHORN_PORT: '0',
    POSTHORN_OPERATOR_KEY: OPERATOR_KEY,
    POSTHORN_ENCRYPTION_KEY: randomBytes(32).toString('hex'),
    POSTHORN_EGRESS_ALLOW: '127.0.0.1/32',
    DATABASE_URL: database.connectionString,
  };
  const query = <Row extends object>(sql: string) => queryDatabase<Row>(database.connection, sql);
  return {
    ledger,
    query,
    startNode: (env, args = []) => startServer({ cwd: folder.path, mode: 'serve', env: { ...shared, ...env }, args }),
    nodeIds: async () => (await query<{ id: number }>('SELECT id FROM nodes ORDER BY id')).map(({ id }) => id),
    remove: async () => {
      await ledger.stop();
      await database.drop();
    },
  };
}

/**
 * To be called when a node has ended: resolves when all that it sent has been read here, with the time. What arrives later
 * is of others.
 */
export async function readUpTo(): Promise<number> {
  // A connection is accepted in one turn, and read in the next ones.
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  return Date.now();
}

/** A delivery that first arrived then was under way at the kill of its node: only such a one may be sent again. */
export function wasUnderWay(first: Arrival | undefined, killedAtMs: number, deadAtMs: number): boolean {
  return first !== undefined && first.atMs <= deadAtMs && (first.answeredAtMs ?? killedAtMs) >= killedAtMs;
}
