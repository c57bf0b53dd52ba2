import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { changeText, NOTIFY_SQL } from '../db/notify.ts';
import { type MasterKey, unwrapKey, wrapKey } from './master-keys.ts';

/** A row of `encryption_keys`. */
export interface KeyRow {
  id: number;
  purpose: 'sealing' | 'hashing' | 'portal';
  state: 'next' | 'current' | 'old';
  wrapped: Buffer;
  /** The name of the master key that wraps it. */
  master_key: string;
  created_at: Date;
}

export type OpenedKey = Pick<KeyRow, 'id' | 'purpose' | 'state'> & { key: Buffer };

/** What came of opening all rows. */
export type OpenedKeys =
  | { kind: 'opened'; keys: OpenedKey[]; master: MasterKey }
  /** None of the master keys wraps any of them. */
  | { kind: 'wrong-master' }
  /** Of the key's wrapping or its row something was changed, or the row was taken from another database. */
  | { kind: 'damaged'; id: number };

type Queryable = Pick<pg.Pool | pg.PoolClient, 'query'>;

export async function readKeyRows(db: Queryable): Promise<KeyRow[]> {
  const result = await db.query<KeyRow>(
    'SELECT id, purpose, state, wrapped, master_key, created_at FROM encryption_keys ORDER BY id',
  );
  return result.rows;
}

/** All rows are wrapped by one master key: a new one takes over all of them in one transaction. */
export function openKeyRows(rows: readonly KeyRow[], masters: readonly MasterKey[]): OpenedKeys {
  for (const master of masters) {
    const keys = rows.map(({ id, purpose, state, wrapped }) => ({
      id,
      purpose,
      state,
      key: unwrapKey(master, wrapped, placeOf(purpose, id)),
    }));
    const bad = keys.find(({ key }) => key === undefined);
    if (bad === undefined) return { kind: 'opened', keys: keys as OpenedKey[], master };
    const isItsMaster = rows.some((row) => row.master_key === master.name) || keys.some(({ key }) => key !== undefined);
    if (isItsMaster) return { kind: 'damaged', id: bad.id };
  }
  return { kind: 'wrong-master' };
}

/** @param key a new one, unless one from before is taken over. */
export async function insertKey(
  db: Queryable,
  row: Pick<KeyRow, 'id' | 'purpose' | 'state'>,
  master: MasterKey,
  key: Buffer = randomBytes(32),
): Promise<void> {
  const wrapped = wrapKey(master, key, placeOf(row.purpose, row.id));
  await db.query('INSERT INTO encryption_keys (id, purpose, state, wrapped, master_key) VALUES ($1, $2, $3, $4, $5)', [
    row.id,
    row.purpose,
    row.state,
    wrapped,
    master.name,
  ]);
}

/** Wraps one row by another master key. */
export async function rewrapKey(db: Queryable, key: OpenedKey, master: MasterKey): Promise<void> {
  const wrapped = wrapKey(master, key.key, placeOf(key.purpose, key.id));
  await db.query('UPDATE encryption_keys SET wrapped = $2, master_key = $3 WHERE id = $1', [
    key.id,
    wrapped,
    master.name,
  ]);
}

/** Has every process read the keys anew, once the surrounding transaction commits. */
export async function announceKeys(db: Queryable): Promise<void> {
  await db.query(NOTIFY_SQL, [changeText({ topic: 'encryption_keys', tenantId: '' })]);
}

/** Runs `task` on one connection, in a transaction. */
export async function inTransaction<Result>(
  pool: pg.Pool,
  task: (client: pg.PoolClient) => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    const result = await task(client);
    await client.query('COMMIT');
    client.release();
    return result;
  } catch (error) {
    // A connection that cannot even roll back is not given to the next one.
    await client.query('ROLLBACK').then(
      () => client.release(),
      () => client.release(true),
    );
    throw error;
  }
}

function placeOf(purpose: KeyRow['purpose'], id: number): string {
  return `encryption_keys/${purpose}/${id}`;
}
