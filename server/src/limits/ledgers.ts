import type pg from 'pg';
import { ADD_DAILY, ADD_RATE_LIMITS, TAKE_DAILY, TAKE_RATE } from './sql.ts';

/** What a node wants of a row. */
export interface Wish {
  key: string;
  tenantId: string;
  subject: string;
  limit: number;
  /** For requests that wait. */
  now: number;
  /** All of `now` or nothing. */
  whole: boolean;
  /** For requests to come. */
  ahead: number;
  /** What was taken ahead in `period` and not used. */
  back: number;
  period: string;
}

/** What it was given. */
export interface Given {
  now: number;
  ahead: number;
  /** For how long what was given ahead may be used, counted from when the statement was sent. */
  usableMs: number;
  remaining: number;
  /** Until all of it is there again. */
  resetMs: number;
  /** What was given in another period is of no use in this one. */
  period: string;
}

/** The rows of one kind of limit. */
export interface Ledger {
  take(wishes: readonly Wish[]): Promise<Map<string, Given>>;
  /** How much to hold with this demand (a millisecond). */
  ahead(demand: number, limit: number): number;
  /** What was taken can be given back. */
  keeps: boolean;
  /** When to come again, when nothing was left; `resetMs`: until all of it is there again. */
  retryMs(resetMs: number): number;
}

/** What is taken ahead of a second is of use for so long. */
const HOLD_MS = 250;

/** Demand of so many milliseconds is taken ahead: a half of `HOLD_MS`, so that little of it expires. */
const SECOND_AHEAD_MS = 125;

/** Limits a second. */
export function rateLedger(pool: pg.Pool): Ledger {
  return {
    keeps: false,
    ahead: (demand) => Math.round(Math.min(1_000_000, demand * SECOND_AHEAD_MS)),
    retryMs: () => 1_000,
    async take(wishes) {
      interface Row {
        tenant_id: string;
        subject: string;
        given_now: number;
        given_ahead: number;
        reset_ms: number;
      }
      const rows = await takeOrAdd<Row>(
        wishes,
        (row) => `${row.tenant_id}/${row.subject}`,
        async (missing) => {
          const result = await pool.query<Row>({
            ...TAKE_RATE,
            values: [
              missing.map(({ tenantId }) => tenantId),
              missing.map(({ subject }) => subject),
              missing.map(({ limit }) => limit),
              missing.map(({ now }) => now),
              missing.map(({ whole }) => whole),
              missing.map(({ ahead }) => ahead),
              HOLD_MS / 1_000,
            ],
          });
          return result.rows;
        },
        async (missing) => {
          const values = [missing.map(({ tenantId }) => tenantId), missing.map(({ subject }) => subject)];
          await pool.query({ ...ADD_RATE_LIMITS, values });
        },
      );
      const given = new Map<string, Given>();
      for (const { key, limit } of wishes) {
        const row = rows.get(key);
        if (row === undefined) continue;
        const remaining = Math.max(0, Math.floor(((1_000 - row.reset_ms) * limit) / 1_000));
        const { given_now: now, given_ahead: ahead, reset_ms: resetMs } = row;
        given.set(key, { now, ahead, usableMs: HOLD_MS, remaining, resetMs, period: '' });
      }
      return given;
    },
  };
}

/** Demand of so many milliseconds is taken ahead of a day. */
const DAY_AHEAD_MS = 1_000;

/** A node has at most this share of a day's quota in hand, and at most so many. */
const DAY_AHEAD_SHARE = 0.01;
const DAY_AHEAD_MAX = 1_000;

/** Quotas a day. */
export function dailyLedger(pool: pg.Pool): Ledger {
  return {
    keeps: true,
    ahead: (demand, limit) => Math.floor(Math.min(demand * DAY_AHEAD_MS, limit * DAY_AHEAD_SHARE, DAY_AHEAD_MAX)),
    retryMs: (resetMs) => resetMs,
    async take(wishes) {
      interface Row {
        tenant_id: string;
        day: string;
        given_now: number;
        given_ahead: number;
        remaining: number;
        day_ends_ms: number;
      }
      const keys = new Map(wishes.map(({ tenantId, key }) => [tenantId, key]));
      const rows = await takeOrAdd<Row>(
        wishes,
        (row) => keys.get(row.tenant_id) ?? '',
        async (missing) => {
          const result = await pool.query<Row>({
            ...TAKE_DAILY,
            values: [
              missing.map(({ tenantId }) => tenantId),
              missing.map(({ limit }) => limit),
              missing.map(({ now }) => now),
              missing.map(({ whole }) => whole),
              missing.map(({ ahead }) => ahead),
              missing.map(({ back }) => back),
              missing.map(({ period }) => (period === '' ? null : period)),
            ],
          });
          return result.rows;
        },
        async (missing) => {
          await pool.query({ ...ADD_DAILY, values: [missing.map(({ tenantId }) => tenantId)] });
        },
      );
      const given = new Map<string, Given>();
      for (const [key, row] of rows) {
        const { given_now: now, given_ahead: ahead, day_ends_ms: endsMs, remaining, day: period } = row;
        given.set(key, { now, ahead, usableMs: endsMs, remaining, resetMs: endsMs, period });
      }
      return given;
    },
  };
}

/** Takes, adds the rows that are missing, and takes from those. */
async function takeOrAdd<Row>(
  wishes: readonly Wish[],
  keyOf: (row: Row) => string,
  take: (wishes: readonly Wish[]) => Promise<Row[]>,
  add: (wishes: readonly Wish[]) => Promise<void>,
): Promise<Map<string, Row>> {
  const rows = new Map((await take(wishes)).map((row) => [keyOf(row), row]));
  const missing = wishes.filter(({ key }) => !rows.has(key));
  if (missing.length === 0) return rows;
  await add(missing);
  for (const row of await take(missing)) rows.set(keyOf(row), row);
  return rows;
}

/** Removes the rows of limits that nobody has used for a day: of keys that are gone, or have no limit any more. */
export async function purgeRateLimits(pool: pg.Pool): Promise<void> {
  await pool.query("DELETE FROM rate_limits WHERE arrival_at < now() - interval '1 day'");
}
