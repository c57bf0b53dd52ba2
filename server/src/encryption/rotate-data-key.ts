import type pg from 'pg';
import { createSecretBox } from '../kernel/secret-box.ts';
import { KeyRing } from './key-ring.ts';
import { announceKeys, insertKey, inTransaction, openKeyRows, readKeyRows } from './key-rows.ts';
import type { MasterKey } from './master-keys.ts';
import { mustBeOpened } from './prepare-keys.ts';
import { countSealedOtherwise, resealColumn } from './reseal.ts';
import { alone, everyHolder, NOTICE_MS, pauseFor, RotationError, type RotationOptions } from './rotation.ts';
import { SEALED_COLUMNS } from './sealed-columns.ts';

export interface DataKeyRotationOptions extends RotationOptions {
  masters: readonly MasterKey[];
  /**
   * Milliseconds between the last process's change to the new key and the removal of the old one (20,000): what was
   * sealed before is stored by then. A connection is waited for 5 seconds at most, and a statement takes 15 at most.
   * What comes later is refused by the database.
   */
  settleMs?: number;
}

export interface RotatedDataKey {
  /** The data key in use. */
  key: number;
  resealed: number;
  /** Data keys that are gone. */
  removed: number[];
}

const SETTLE_MS = 20_000;

/** Between two walks over a column; what was locked at the first is mostly free at the second. */
const WALK_PAUSE_MS = 200;

/**
 * Makes a new data key and seals everything anew with it, while the program serves. Each step is one transaction, and
 * the table says which one is next, so a rotation that was killed is taken up where it was:
 *
 * 1. the new key is there, and every process learns it: `next`
 * 2. it is `current`, and every process begins to seal with it; the one before is `old`
 * 3. all values are walked over, and sealed anew
 * 4. when nothing is sealed with an old key any more, the old ones are removed.
 *
 * When old keys are there at the beginning, a rotation was cut short and its steps 3 and 4 are done, with no further key.
 *
 * @throws RotationError when another rotation is under way, a process does not take notice, or a value does not open.
 */
export async function rotateDataKey(options: DataKeyRotationOptions): Promise<RotatedDataKey> {
  return alone(options.pool, () => rotate(options));
}

async function rotate(options: DataKeyRotationOptions): Promise<RotatedDataKey> {
  const { pool, masters, clock, onStep, settleMs = SETTLE_MS } = options;
  const rows = await readKeyRows(pool);
  const { master } = mustBeOpened(openKeyRows(rows, masters));
  const sealing = rows.filter(({ purpose }) => purpose === 'sealing');
  let next = sealing.find(({ state }) => state === 'next')?.id;
  const interrupted = sealing.some(({ state }) => state === 'old');
  if (next === undefined && !interrupted) {
    next = Math.max(...rows.map(({ id }) => id)) + 1;
    await onStep(`Making data key ${next}.`);
    await announceNext(pool, next, master);
  } else await onStep('Taking up the rotation that was interrupted.');

  if (next !== undefined) {
    await onStep(`Waiting until every running process has data key ${next}.`);
    await everyHolder(options, 'newest_key >= $1', next, `Data key ${next} is not known everywhere`);
    await onStep(`Sealing with data key ${next} from now on.`);
    await promoteNext(pool, next);
  }
  const opened = mustBeOpened(openKeyRows(await readKeyRows(pool), masters));
  const ring = new KeyRing();
  ring.take(opened.keys);
  const key = ring.current.id;
  await onStep('Waiting until no running process seals with an old key.');
  await everyHolder(options, 'current_key = $1', key, `Data key ${key} is not in use everywhere`);
  const settledMs = clock.monotonicMs() + settleMs;

  let resealed = await resealAll(options, ring);
  await onStep('Waiting for what was under way.');
  await pauseFor(clock, Math.max(0, settledMs - clock.monotonicMs()));
  resealed += await resealAll(options, ring);
  const old = opened.keys.filter(({ purpose, state }) => purpose === 'sealing' && state === 'old').map(({ id }) => id);
  await onStep(`Removing data ${old.length === 1 ? 'key' : 'keys'} ${old.join(', ')}.`);
  await removeOld(pool, old, key);
  return { key, resealed, removed: old };
}

function announceNext(pool: pg.Pool, id: number, master: MasterKey): Promise<void> {
  return inTransaction(pool, async (client) => {
    await insertKey(client, { id, purpose: 'sealing', state: 'next' }, master);
    await announceKeys(client);
  });
}

function promoteNext(pool: pg.Pool, id: number): Promise<void> {
  return inTransaction(pool, async (client) => {
    await client.query(`UPDATE encryption_keys SET state = 'old' WHERE purpose = 'sealing' AND state = 'current'`);
    await client.query(`UPDATE encryption_keys SET state = 'current' WHERE id = $1`, [id]);
    await announceKeys(client);
  });
}

/** Walks until nothing was passed over. */
async function resealAll(options: DataKeyRotationOptions, ring: KeyRing): Promise<number> {
  const { pool, clock, onStep, noticeMs = NOTICE_MS } = options;
  const box = createSecretBox(ring);
  let total = 0;
  for (const column of Object.values(SEALED_COLUMNS)) {
    const name = `${column.table}.${column.column}`;
    const endMs = clock.monotonicMs() + noticeMs;
    for (;;) {
      const done = await resealColumn(pool, column, { box, currentKey: ring.current.id });
      total += done.resealed;
      if (done.resealed > 0) await onStep(`Sealed ${done.resealed} of ${name} anew.`);
      if (done.unreadable.length > 0) {
        throw new RotationError(
          `${done.unreadable.length} of ${name} cannot be opened, the first of them ${done.unreadable[0]}. Store them anew or delete them, and repeat the command; the old keys stay until then.`,
        );
      }
      if (done.passedOver === 0) break;
      if (clock.monotonicMs() >= endMs) throw new RotationError(`Rows of ${name} stay locked: repeat the command.`);
      await pauseFor(clock, WALK_PAUSE_MS);
    }
  }
  return total;
}

/**
 * Whoever stores a value sealed with an old key holds the key's row until the commit: this waits for them, and whoever
 * comes after is refused. So what is counted then is all there will ever be.
 */
function removeOld(pool: pg.Pool, old: readonly number[], current: number): Promise<void> {
  return inTransaction(pool, async (client) => {
    await client.query('SELECT FROM encryption_keys WHERE id = ANY ($1::integer[]) ORDER BY id FOR UPDATE', [old]);
    const left = await countSealedOtherwise(client, current);
    if (left > 0) {
      throw new RotationError(`${left} values were stored under an old key meanwhile: repeat the command.`);
    }
    await client.query('DELETE FROM encryption_keys WHERE id = ANY ($1::integer[])', [old]);
    await announceKeys(client);
  });
}
