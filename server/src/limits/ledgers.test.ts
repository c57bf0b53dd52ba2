import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDatabase } from '../db/pool.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { insertTenant } from '../tenants/queries.ts';
import { DEFAULT_SETTINGS } from '../tenants/types.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { dailyLedger, purgeRateLimits, rateLedger, type Wish } from './ledgers.ts';
import { Slices } from './slices.ts';

let database: TestDatabase;
let pool: pg.Pool;
let tenantId: string;
let tenants = 0;
beforeAll(async () => {
  database = await createTestDatabase();
  pool = database.openPool();
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

async function newTenant(): Promise<string> {
  const { db, close } = openDatabase({ connection: database.connection, logger: createLogger('silent'), max: 1 });
  const newId = createIdSource(systemClock);
  tenants += 1;
  const tenant = { slug: `t-${tenants}`, name: 'T', settings: DEFAULT_SETTINGS };
  const row = await db.transaction().execute((trx) => insertTenant(trx, tenant, newId, new Date()));
  await close();
  tenantId = row?.id ?? '';
  return tenantId;
}

function wish(fields: Partial<Wish> = {}): Wish {
  const subject = fields.subject ?? 'requests';
  return {
    key: `${tenantId}/${subject}`,
    tenantId,
    subject,
    limit: 100,
    now: 0,
    whole: false,
    ahead: 0,
    back: 0,
    period: '',
    ...fields,
  };
}

test('a bucket of a second gives what it holds, and of a batch all or nothing', async () => {
  await newTenant();
  const ledger = rateLedger(pool);
  // So slow that nothing comes back while the test runs.
  const take = async (fields: Partial<Wish>) =>
    (await ledger.take([wish({ limit: 1, ...fields })])).values().next().value;
  expect(await take({ now: 1 })).toMatchObject({ now: 1, ahead: 0, remaining: 0 });
  expect(await take({ now: 1 })).toMatchObject({ now: 0, ahead: 0 });
  const other = async (fields: Partial<Wish>) => take({ subject: 'events', limit: 1_000, ...fields });
  expect(await other({ now: 999, whole: true })).toMatchObject({ now: 999 });
  expect(await other({ now: 900, whole: true })).toMatchObject({ now: 0 });
  expect((await other({ now: 900 }))?.now).toBeLessThan(900);
});

test('what is given ahead counts as used at the end of the time for which it is held', async () => {
  await newTenant();
  const ledger = rateLedger(pool);
  const [first] = (await ledger.take([wish({ limit: 1_000, ahead: 5_000 })])).values();
  // A quarter of a second is the time for which it may be held.
  expect(first?.ahead).toBeGreaterThan(740);
  expect(first?.ahead).toBeLessThanOrEqual(750);
  const [second] = (await ledger.take([wish({ limit: 1_000, now: 5_000 })])).values();
  expect(second?.now).toBeLessThan(200);
});

test('of a tenant that is gone nothing is given, and no row is made', async () => {
  await newTenant();
  const gone = wish({ tenantId: '01900000-0000-7000-8000-000000000000', key: 'gone', now: 1 });
  expect([...(await rateLedger(pool).take([gone])).keys()]).toEqual([]);
  expect([...(await dailyLedger(pool).take([gone])).keys()]).toEqual([]);
});

test('a day’s quota is used up exactly, what is given back is there again, and a new day begins with all of it', async () => {
  await newTenant();
  const ledger = dailyLedger(pool);
  const take = async (fields: Partial<Wish>) =>
    (await ledger.take([wish({ subject: 'events', limit: 10, ...fields })])).values().next().value;
  expect(await take({ now: 4, whole: true })).toMatchObject({ now: 4, remaining: 6 });
  const ahead = await take({ ahead: 100 });
  expect(ahead).toMatchObject({ ahead: 6, remaining: 0 });
  expect(await take({ now: 1 })).toMatchObject({ now: 0 });
  expect(await take({ back: 2, period: ahead?.period ?? '', now: 3, whole: true })).toMatchObject({ now: 0 });
  expect(await take({ now: 2, whole: true })).toMatchObject({ now: 2, remaining: 0 });
  await pool.query('UPDATE daily_usage SET day = day - 1 WHERE tenant_id = $1', [tenantId]);
  // What was taken of yesterday is not given back to today.
  expect(await take({ back: 5, period: '2026-01-01', now: 1 })).toMatchObject({ now: 1, remaining: 9 });
});

test('two nodes together get no more than the limit in any stretch, and a busy one nearly all of it', async () => {
  await newTenant();
  const limit = 400;
  const nodes = [1, 2].map(() => new Slices(systemClock, rateLedger(pool)).bucket(tenantId, 'requests', limit));
  /** Of each grant when it was asked for and when it was seen: it was made in between. */
  const granted: { askedMs: number; seenMs: number }[] = [];
  let refused = 0;
  const run = async (bucket: (typeof nodes)[number], untilMs: number, pauseMs: number) => {
    while (performance.now() < untilMs) {
      const askedMs = performance.now();
      const answers = await Promise.all(Array.from({ length: 20 }, () => bucket.take(1)));
      const seenMs = performance.now();
      for (const answer of answers) {
        if (answer.granted) granted.push({ askedMs, seenMs });
        else refused += 1;
      }
      await new Promise<void>((resolve) => systemClock.after(pauseMs, resolve));
    }
  };
  const MS = 2_000;
  const startMs = performance.now();
  await Promise.all(nodes.map((bucket) => run(bucket, startMs + MS, 10)));
  const tookMs = performance.now() - startMs;
  expect(refused).toBeGreaterThan(limit);
  const ends = [...new Set(granted.map(({ seenMs }) => seenMs))];
  for (const fromMs of new Set(granted.map(({ askedMs }) => askedMs))) {
    const later = granted.filter(({ askedMs }) => askedMs >= fromMs);
    for (const toMs of ends.filter((endMs) => endMs > fromMs)) {
      const within = later.filter(({ seenMs }) => seenMs <= toMs).length;
      expect(within).toBeLessThanOrEqual(limit * ((toMs - fromMs) / 1_000 + 1));
    }
  }
  expect(granted.length).toBeGreaterThan((limit * tookMs) / 1_000);
  // The other one is idle now.
  granted.length = 0;
  const aloneMs = performance.now();
  await run(nodes[0] as (typeof nodes)[number], aloneMs + MS, 5);
  expect(granted.length).toBeGreaterThan((0.9 * limit * (performance.now() - aloneMs)) / 1_000);
});

test('a quota of a day holds over nodes that come and go, and each leaves a hundredth unused at most when it is killed', async () => {
  await newTenant();
  const limit = 2_000;
  let granted = 0;
  for (let life = 0; life < 4; life++) {
    const buckets = [1, 2].map(() => new Slices(systemClock, dailyLedger(pool)).bucket(tenantId, 'events', limit));
    for (let n = 0; n < 300; n++) {
      for (const bucket of buckets) if ((await bucket.take(1)).granted) granted += 1;
    }
    // They are forgotten with what they have in hand, as by a kill.
  }
  expect(granted).toBeLessThanOrEqual(limit);
  expect(granted).toBeGreaterThanOrEqual(limit - 8 * (limit / 100));
});

test('a day’s quota is exact when many ask at the same time', async () => {
  await newTenant();
  const ledgers = Array.from({ length: 8 }, () => dailyLedger(pool));
  await dailyLedger(pool).take([wish({ subject: 'events', limit: 500 })]);
  let granted = 0;
  for (let round = 0; round < 20; round++) {
    const answers = await Promise.all(
      ledgers.map((ledger) => ledger.take([wish({ subject: 'events', limit: 500, now: 5, whole: true })])),
    );
    for (const answer of answers) granted += answer.values().next().value?.now ?? 0;
  }
  expect(granted).toBe(500);
});

test('a slice of a second is used within a quarter of one, or not at all', async () => {
  await newTenant();
  const clock = new ManualClock();
  const slices = new Slices(clock, rateLedger(pool));
  const bucket = slices.bucket(tenantId, 'requests', 1_000);
  const burst = () => Promise.all(Array.from({ length: 50 }, () => bucket.take(1)));
  await burst();
  clock.advance(1_000);
  // Only what was asked before a statement tells it how much to take ahead.
  await burst();
  await slices.whenIdle();
  expect(bucket.take(1)).toMatchObject({ granted: true });
  clock.advance(249);
  expect(bucket.take(1)).toMatchObject({ granted: true });
  await slices.whenIdle();
  clock.advance(250);
  expect(bucket.take(1)).toBeInstanceOf(Promise);
  await slices.whenIdle();
});

test('what a node holds of a day goes back when it is idle', async () => {
  await newTenant();
  const slices = new Slices(systemClock, dailyLedger(pool));
  const bucket = slices.bucket(tenantId, 'events', 100_000);
  for (let n = 0; n < 500; n++) await bucket.take(1);
  await slices.whenIdle();
  const used = async () =>
    Number((await pool.query('SELECT used FROM daily_usage WHERE tenant_id = $1', [tenantId])).rows[0].used);
  expect(await used()).toBeGreaterThan(500);
  bucket.returnIdle(0);
  await slices.whenIdle();
  expect(await used()).toBe(500);
  expect(bucket.isIdle(0)).toBe(true);
});

test('rows that nobody uses any more are removed', async () => {
  await newTenant();
  await rateLedger(pool).take([wish({ now: 1 }), wish({ subject: 'key:old', key: `${tenantId}/key:old`, now: 1 })]);
  await pool.query("UPDATE rate_limits SET arrival_at = now() - interval '25 hours' WHERE subject = 'key:old'");
  await purgeRateLimits(pool);
  const { rows } = await pool.query('SELECT subject FROM rate_limits WHERE tenant_id = $1', [tenantId]);
  expect(rows).toEqual([{ subject: 'requests' }]);
});
