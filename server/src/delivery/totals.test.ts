import fc from 'fast-check';
import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openEnginePool } from '../db/pool.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { eventually } from '../testing/eventually.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { foldTallies, Totals } from './totals.ts';

let database: TestDatabase;
let pool: pg.Pool;
beforeAll(async () => {
  database = await createTestDatabase();
  pool = openEnginePool({ connection: database.connection, logger: createLogger('silent') });
  await pool.query(
    "INSERT INTO tenants (id, slug, name, settings, created_at, updated_at) VALUES ($1, 't', 't', '{}', now(), now())",
    [TENANT],
  );
  await pool.query(
    "INSERT INTO environments (tenant_id, id, name, preset, created_at) VALUES ($1, $1, 'e', 'standard', now())",
    [TENANT],
  );
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

const TENANT = '00000000-0000-7000-8000-000000000001';
const [ONE, TWO, GONE] = [11, 12, 13].map((n) => `00000000-0000-7000-8000-0000000000${n}`) as [string, string, string];

beforeEach(async () => {
  await pool.query('TRUNCATE webhooks, webhook_totals, webhook_tallies, filtered_tallies CASCADE');
  await pool.query(
    `INSERT INTO webhooks (tenant_id, environment_id, id, name, url, events, status, http_method, created_at, updated_at)
     SELECT $1, $1, unnest($2::uuid[]), 'w', 'https://e.example', '{*}', 'active', 'POST', now(), now()`,
    [TENANT, [ONE, TWO]],
  );
});

interface Attempt {
  /** Minutes after the beginning. */
  at: number;
  succeeded: boolean;
}

const BEGINNING = Date.parse('2030-01-15T23:00:00Z');
const timeOf = (minutes: number) => new Date(BEGINNING + minutes * 60_000);

/** Leaves what a commit of these attempts leaves. */
async function commit(attempts: Attempt[], webhookId = ONE): Promise<void> {
  const timesOf = (succeeded: boolean) =>
    attempts.filter((attempt) => attempt.succeeded === succeeded).map(({ at }) => timeOf(at).getTime());
  const [successes, failures] = [timesOf(true), timesOf(false)];
  const time = (ms: number) => (Number.isFinite(ms) ? new Date(ms) : null);
  await pool.query(
    `INSERT INTO webhook_tallies (tallies)
     VALUES (ARRAY[($1, $2, $3::int, 0, $4::int, $5::int, $6::timestamptz, $7::timestamptz, $8::timestamptz,
       $9::timestamptz)::webhook_tally])`,
    [
      TENANT,
      webhookId,
      successes.length,
      attempts.length,
      attempts.length * 10,
      time(Math.max(...successes, ...failures)),
      time(Math.max(...successes)),
      time(Math.min(...failures)),
      time(Math.max(...failures)),
    ],
  );
}

const totalsOf = async (webhookId = ONE) =>
  (await pool.query('SELECT * FROM webhook_totals WHERE webhook_id = $1', [webhookId])).rows[0];

describe('adding what filters kept back', () => {
  const commitFiltered = (counts: Record<string, number>) =>
    pool.query('INSERT INTO filtered_tallies (tenants, webhooks, counts) VALUES ($1, $2, $3)', [
      Object.keys(counts).map(() => TENANT),
      Object.keys(counts),
      Object.values(counts),
    ]);

  it('counts each once, whoever else does it at the same time, and nothing of a webhook that is gone', async () => {
    for (let n = 0; n < 250; n += 1) await commitFiltered({ [ONE]: 2, [TWO]: 1, [GONE]: 1 });
    await Promise.all([foldTallies(pool), foldTallies(pool), foldTallies(pool)]);
    expect((await pool.query('SELECT FROM filtered_tallies')).rowCount).toBe(0);
    expect([(await totalsOf(ONE)).filtered, (await totalsOf(TWO)).filtered].map(Number)).toEqual([500, 250]);
    expect(await totalsOf(GONE)).toBeUndefined();
  });

  it('and what attempts counted leave each other alone', async () => {
    await commitFiltered({ [ONE]: 3 });
    await foldTallies(pool);
    expect(await totalsOf()).toMatchObject({ last_triggered_at: null, failing_since: null });
    await commit([{ at: 1, succeeded: false }]);
    await commitFiltered({ [ONE]: 1 });
    await foldTallies(pool);
    const { filtered, attempts, failing_since } = await totalsOf();
    expect([Number(filtered), Number(attempts), failing_since]).toEqual([4, 1, timeOf(1)]);
  });
});

describe('adding tallies to totals', () => {
  it('counts each once, in as many statements as there are, and whoever else does it at the same time', async () => {
    const many = Array.from({ length: 250 }, (_, n) => n);
    await Promise.all(many.map((n) => commit([{ at: n, succeeded: true }], n % 2 === 0 ? ONE : TWO)));
    await Promise.all([foldTallies(pool), foldTallies(pool), foldTallies(pool)]);
    await foldTallies(pool);
    for (const webhookId of [ONE, TWO]) {
      expect(await totalsOf(webhookId)).toMatchObject({ delivered: 125, attempts: 125, response_time_ms_sum: 1_250 });
    }
    expect((await pool.query('SELECT FROM webhook_tallies')).rowCount).toBe(0);
  });

  it('gives a webhook that is gone no totals again', async () => {
    await commit([{ at: 0, succeeded: true }], GONE);
    await foldTallies(pool);
    expect((await pool.query('SELECT FROM webhook_totals')).rowCount).toBe(0);
    expect((await pool.query('SELECT FROM webhook_tallies')).rowCount).toBe(0);
  });

  it('knows a streak of failures by its times, in whatever order and company the commits come', async () => {
    const attempts = fc.uniqueArray(fc.record({ at: fc.integer({ min: 0, max: 300 }), succeeded: fc.boolean() }), {
      selector: ({ at }) => at,
      minLength: 1,
      maxLength: 12,
    });
    const run = fc.record({
      attempts,
      commits: fc.infiniteStream(fc.nat({ max: 4 })),
      folds: fc.infiniteStream(fc.boolean()),
    });
    await fc.assert(
      fc.asyncProperty(run, async ({ attempts: all, commits, folds }) => {
        await pool.query('TRUNCATE webhook_totals');
        for (const group of Map.groupBy(all, () => commits.next().value).values()) {
          await commit(group);
          if (folds.next().value) await foldTallies(pool);
        }
        await foldTallies(pool);
        const last = (succeeded: boolean) =>
          Math.max(...all.filter((attempt) => attempt.succeeded === succeeded).map(({ at }) => at));
        const [success, failure] = [last(true), last(false)];
        const totals = await totalsOf();
        expect(totals).toMatchObject({
          delivered: all.filter(({ succeeded }) => succeeded).length,
          attempts: all.length,
          last_triggered_at: timeOf(Math.max(success, failure)),
        });
        if (failure < success || failure === Number.NEGATIVE_INFINITY) {
          expect(totals).toMatchObject({ failing_since: null, failing_days: 0 });
          return;
        }
        expect(totals.failing_since.getTime()).toBeGreaterThan(timeOf(Math.max(success, -1)).getTime());
        expect(totals.failing_since.getTime()).toBeLessThanOrEqual(timeOf(failure).getTime());
        expect(totals.failing_days).toBeGreaterThanOrEqual(1);
      }),
      { numRuns: 60 },
    );
  });

  it('lets a streak begin with the first failure after the last success, and counts its days', async () => {
    for (const at of [0, 10]) await commit([{ at, succeeded: false }]);
    await commit([{ at: 20, succeeded: true }]);
    await foldTallies(pool);
    for (const at of [30, 40, 59]) await commit([{ at, succeeded: false }]);
    await foldTallies(pool);
    expect(await totalsOf()).toMatchObject({ failing_since: timeOf(30), failing_days: 1, last_failure_at: timeOf(59) });
    for (const at of [60, 61, 1_500, 1_501]) {
      await commit([{ at, succeeded: false }]);
      await foldTallies(pool);
    }
    expect(await totalsOf()).toMatchObject({ failing_since: timeOf(30), failing_days: 3 });
    await commit([{ at: 1_600, succeeded: true }]);
    await foldTallies(pool);
    expect(await totalsOf()).toMatchObject({ failing_since: null, failing_days: 0, last_success_at: timeOf(1_600) });
  });
});

it('is done a few seconds after something was counted, and again when it failed', async () => {
  const clock = new ManualClock();
  const totals = new Totals({ pool, clock, logger: createLogger('silent') });
  totals.foldLater();
  totals.foldLater();
  await commit([{ at: 0, succeeded: true }]);
  await pool.query('ALTER TABLE webhook_totals RENAME TO hidden');
  clock.advance(5_000);
  await eventually(
    async () => clock.pending,
    (pending) => pending === 1,
  );
  await pool.query('ALTER TABLE hidden RENAME TO webhook_totals');
  clock.advance(5_000);
  await totals.stop();
  expect(await totalsOf()).toMatchObject({ delivered: 1 });
});
