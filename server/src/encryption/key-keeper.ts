import { hostname } from 'node:os';
import type pg from 'pg';
import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { IdSource } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import { type MasterKeySource, readMasterKeys } from './key-files.ts';
import type { KeyRing } from './key-ring.ts';
import { openKeyRows, readKeyRows } from './key-rows.ts';
import type { MasterKey } from './master-keys.ts';
import { mustBeOpened } from './prepare-keys.ts';

export interface KeyKeeper {
  /** Reads the keys anew, for a notice of `encryption_keys` and whenever notices may have been missed. Never fails. */
  refresh(): Promise<void>;
  stop(): Promise<void>;
}

export interface KeyKeeperOptions {
  pool: pg.Pool;
  ring: KeyRing;
  source: MasterKeySource;
  clock: Clock;
  newId: IdSource;
  logger: Logger;
}

/** How often the keys are read without being asked to, and the process says that it lives. */
const BEAT_MS = 5_000;

/** A value that names a key nobody has must not have the keys read all the time. */
const UNKNOWN_KEY_PAUSE_MS = 1_000;

/**
 * Keeps a process's keys up to date, and says in `key_holders` which ones it has: a rotation waits until every process
 * can open with a new key before any seals with it, and until none seals with the old one before that goes. It is
 * written before the keys are first read, so that no rotation overlooks a process that starts.
 *
 * @throws StartupError when the keys cannot be opened.
 */
export async function startKeyKeeper(options: KeyKeeperOptions): Promise<KeyKeeper> {
  const { pool, ring, source, clock, logger } = options;
  const id = options.newId();
  let stopped = false;
  let cancelBeat = () => {};
  let failing = false;

  const tell = (masters: readonly MasterKey[], known: boolean) =>
    pool.query(HOLD_SQL, [
      id,
      process.pid,
      hostname(),
      known ? ring.newest : null,
      known ? ring.current.id : null,
      masters.map(({ name }) => name),
    ]);

  const read = async () => {
    const masters = await readMasterKeys(source);
    ring.take(mustBeOpened(openKeyRows(await readKeyRows(pool), masters)).keys);
    await tell(masters, true);
  };

  const readAndReport = async () => {
    try {
      await read();
      failing = false;
    } catch (error) {
      // What is known goes on working. Once is enough: it is tried again every few seconds.
      if (!failing && !stopped) logger.error({ code: errorCode(error) }, 'the encryption keys cannot be read anew');
      failing = true;
    }
  };

  /** One reading at a time; whoever asks while one is under way waits for another one, which begins after they asked. */
  let underWay: Promise<void> | undefined;
  let following: Promise<void> | undefined;
  const refresh = (): Promise<void> => {
    if (stopped) return Promise.resolve();
    if (underWay === undefined) {
      underWay = readAndReport().finally(() => {
        underWay = undefined;
      });
      return underWay;
    }
    following ??= underWay.then(() => {
      following = undefined;
      return refresh();
    });
    return following;
  };

  let unknownAtMs = Number.NEGATIVE_INFINITY;
  ring.onUnknown = () => {
    if (underWay !== undefined) return refresh();
    if (clock.monotonicMs() - unknownAtMs < UNKNOWN_KEY_PAUSE_MS) return Promise.resolve();
    unknownAtMs = clock.monotonicMs();
    return refresh();
  };

  const beat = () => {
    cancelBeat = clock.after(BEAT_MS, () => {
      void refresh().then(() => {
        if (!stopped) beat();
      });
    });
  };

  await tell(await readMasterKeys(source), false);
  await read();
  beat();
  return {
    refresh,
    async stop() {
      stopped = true;
      cancelBeat();
      await underWay;
      await pool.query('DELETE FROM key_holders WHERE id = $1', [id]).catch(() => {
        // It is forgotten by itself when it is silent for long enough.
      });
    },
  };
}

/** What was silent for an hour is forgotten by the way. */
const HOLD_SQL = `
  WITH forgotten AS (DELETE FROM key_holders WHERE seen_at < now() - interval '1 hour' AND id <> $1)
  INSERT INTO key_holders (id, pid, host, seen_at, newest_key, current_key, master_keys)
  VALUES ($1, $2, $3, now(), $4, $5, $6)
  ON CONFLICT (id) DO UPDATE
    SET seen_at = now(), newest_key = excluded.newest_key, current_key = excluded.current_key,
        master_keys = excluded.master_keys`;
