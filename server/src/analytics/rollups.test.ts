import fc from 'fast-check';
import { sql } from 'kysely';
import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type DatabaseHandle, openDatabase, openEnginePool } from '../db/pool.ts';
import { ATTEMPT_CODE } from '../delivery/attempt-codes.ts';
import { foldTallies } from '../delivery/totals.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { type Figures, figuresOf } from './figures.ts';
import { type CountsQuery, readCounts } from './read-counts.ts';
import { addParts, purgeRollups } from './rollup-worker.ts';
import { LEVELS, type Level, rangesOf } from './series.ts';

let database: TestDatabase;
let engine: pg.Pool;
let handle: DatabaseHandle;

const id = (n: number) => `00000000-0000-7000-8000-${String(n).padStart(12, '0')}`;
const [TENANT, OTHER, GONE] = [id(1), id(2), id(3)];
const WEBHOOKS = [id(11), id(12), id(13)];
const TYPES = ['order.paid', 'order.lost', 'it\'s "odd", \\ {and} NULL'];

beforeAll(async () => {
  database = await createTestDatabase();
  const logger = createLogger('silent');
  engine = openEnginePool({ connection: database.connection, logger });
  handle = openDatabase({ connection: database.connection, logger });
  for (const tenant of [TENANT, OTHER]) {
    await sql`INSERT INTO tenants (id, slug, name, settings, created_at, updated_at)
      VALUES (${tenant}, ${tenant}, 't', '{}', now(), now())`.execute(handle.db);
    await sql`INSERT INTO environments (tenant_id, id, name, preset, created_at)
      VALUES (${tenant}, ${tenant}, 'e', 'standard', now())`.execute(handle.db);
  }
});
afterAll(async () => {
  await engine.end();
  await handle.close();
  await database.drop();
});
beforeEach(() => empty());

const empty = () => engine.query('TRUNCATE webhook_tallies, rollup_parts, rollups_minute, rollups_hour, rollups_day');

interface Attempt {
  tenant: string;
  webhook: string;
  type: string;
  /** Minutes before the end of the time that is looked at. */
  age: number;
  durationMs: number;
  status: number | null;
  errorClass: string | null;
  dead: boolean;
}

const NOW = Date.parse('2030-03-10T00:07:31Z');
const END = Date.parse('2030-03-10T00:08:00Z');

/** Leaves what a commit of these attempts leaves. */
async function commit(attempts: Attempt[]): Promise<void> {
  await engine.query(
    `INSERT INTO webhook_tallies (tallies, seen)
     SELECT '{}', array_agg(s::attempts_seen) FROM (
       SELECT tenant::uuid, tenant::uuid AS env, webhook::uuid, type, at::timestamptz,
         count(*) FILTER (WHERE dead)::int, array_agg(${ATTEMPT_CODE})
       FROM json_to_recordset($1) AS a (tenant text, webhook text, type text, at text, dead boolean, duration_ms int,
         response_status int, error_class text)
       GROUP BY 1, 2, 3, 4, 5
     ) s`,
    [
      JSON.stringify(
        attempts.map((attempt) => ({
          ...attempt,
          at: new Date(END - (attempt.age + 1) * 60_000),
          duration_ms: attempt.durationMs,
          response_status: attempt.status,
          error_class: attempt.errorClass,
        })),
      ),
    ],
  );
}

const read = async (query: Partial<CountsQuery> = {}, tenant = TENANT) => {
  const ranges = rangesOf(END - 90 * 86_400_000, END, NOW);
  return readCounts(handle.db, { tenantId: tenant, environmentId: tenant }, { ranges, ...query });
};
const figures = async (query: Partial<CountsQuery> = {}, tenant = TENANT): Promise<Figures> =>
  figuresOf((await read(query, tenant)).get('') ?? new Map());

const success = (fields: Partial<Attempt> = {}): Attempt => ({
  tenant: TENANT,
  webhook: WEBHOOKS[0] as string,
  type: TYPES[0] as string,
  age: 0,
  durationMs: 12,
  status: 200,
  errorClass: null,
  dead: false,
  ...fields,
});

const anAttempt: fc.Arbitrary<Attempt> = fc
  .record({
    tenant: fc.constantFrom(TENANT, TENANT, OTHER),
    webhook: fc.constantFrom(...WEBHOOKS),
    type: fc.constantFrom(...TYPES),
    age: fc.oneof(fc.nat({ max: 70 }), fc.nat({ max: 2_880 })),
    durationMs: fc.oneof(fc.nat({ max: 60 }), fc.nat({ max: 60_000 })),
    ...{ status: fc.constant(200), errorClass: fc.constant(null), dead: fc.constant(false) },
  })
  .chain((attempt) =>
    fc
      .constantFrom<[number | null, string | null]>(
        [200, null],
        [204, null],
        [500, 'response'],
        [404, 'response'],
        [301, 'response'],
        [null, 'timeout'],
        [null, 'connect'],
        [null, 'internal'],
        [null, 'template'],
      )
      .chain(([status, errorClass]) =>
        fc.boolean().map((dead) => ({ ...attempt, status, errorClass, dead: dead && errorClass !== null })),
      ),
  );

/** Nearest rank, of the attempts themselves. */
function exactQuantile(durations: number[], share: number): number {
  const sorted = durations.toSorted((one, other) => one - other);
  return sorted[Math.max(1, Math.ceil(share * sorted.length)) - 1] ?? Number.NaN;
}

function expectFiguresOf(seen: Figures, attempts: Attempt[]): void {
  const delivered = attempts.filter(({ errorClass }) => errorClass === null).length;
  expect(seen).toMatchObject({
    attempts: attempts.length,
    delivered,
    failed: attempts.length - delivered,
    dead: attempts.filter(({ dead }) => dead).length,
  });
  const classes = Object.groupBy(
    attempts.filter(({ errorClass }) => errorClass !== null),
    (each) => each.errorClass ?? '',
  );
  expect(seen.byErrorClass).toEqual(
    Object.fromEntries(Object.entries(classes).map(([name, of]) => [name, of?.length])),
  );
  expect(seen.byStatusClass['5xx']).toBe(attempts.filter(({ status }) => status === 500).length);
  expect(seen.byStatusClass.none).toBe(attempts.filter(({ status }) => status === null).length);
  const timed = attempts
    .filter(({ status, errorClass }) => status !== null || errorClass === 'timeout')
    .map(({ durationMs }) => durationMs);
  if (timed.length === 0) {
    expect(seen.responseTime).toBeNull();
    return;
  }
  expect(seen.responseTime?.averageMs).toBe(Math.round(timed.reduce((sum, ms) => sum + ms, 0) / timed.length));
  for (const [share, name] of [
    [0.5, 'p50Ms'],
    [0.95, 'p95Ms'],
    [0.99, 'p99Ms'],
  ] as const) {
    const exact = exactQuantile(timed, share);
    expect(Math.abs((seen.responseTime?.[name] ?? Number.NaN) - exact)).toBeLessThanOrEqual(exact * 0.025);
  }
}

describe('rollups', () => {
  it('say the same whatever is added up when, each attempt counted once in every table', async () => {
    const commits = fc.array(
      fc.record({
        attempts: fc.array(anAttempt, { minLength: 1, maxLength: 40 }),
        after: fc.constantFrom('nothing', 'fold', 'add'),
      }),
      { minLength: 1, maxLength: 6 },
    );
    await fc.assert(
      fc.asyncProperty(commits, async (all) => {
        await empty();
        for (const { attempts, after } of all) {
          await commit(attempts);
          if (after !== 'nothing') await foldTallies(engine);
          if (after === 'add') await addParts(engine);
        }
        const mine = all.flatMap(({ attempts }) => attempts).filter(({ tenant }) => tenant === TENANT);
        expectFiguresOf(await figures(), mine);
        for (const level of Object.keys(LEVELS) as Level[]) {
          const { lengthMs } = LEVELS[level];
          const ranges = [{ level, fromMs: 0, toMs: END }];
          expectFiguresOf(await figures({ ranges }), mine);
          const times = await read({ ranges, by: level });
          const byTime = Map.groupBy(mine, ({ age }) =>
            String(Math.floor((END - (age + 1) * 60_000) / lengthMs) * lengthMs),
          );
          expect([...times.keys()].sort()).toEqual([...byTime.keys()].sort());
          for (const [time, attempts] of byTime) expectFiguresOf(figuresOf(times.get(time) ?? new Map()), attempts);
        }
        const types = await read({ by: 'event_type' });
        for (const type of TYPES) {
          expectFiguresOf(
            figuresOf(types.get(type) ?? new Map()),
            mine.filter((attempt) => attempt.type === type),
          );
        }
        const two = WEBHOOKS.slice(0, 2);
        expectFiguresOf(
          await figures({ webhookIds: two }),
          mine.filter(({ webhook }) => two.includes(webhook)),
        );
        const webhooks = await read({ webhookIds: two, by: 'webhook', eventType: TYPES[0] });
        for (const webhook of two) {
          const of = mine.filter((attempt) => attempt.webhook === webhook && attempt.type === TYPES[0]);
          expectFiguresOf(figuresOf(webhooks.get(webhook) ?? new Map()), of);
        }
      }),
      { numRuns: 40 },
    );
  }, 60_000);

  it('give percentiles within 2.5 % of the exact ones', async () => {
    // Many small ones and a long tail, as response times are.
    const durations = fc.array(
      fc.oneof(
        fc.integer({ min: 0, max: 50 }),
        fc.integer({ min: 50, max: 1_000 }),
        fc.integer({ min: 1_000, max: 60_000 }),
      ),
      { minLength: 1, maxLength: 300 },
    );
    await fc.assert(
      fc.asyncProperty(durations, async (all) => {
        await empty();
        await commit(all.map((durationMs) => success({ durationMs })));
        expectFiguresOf(
          await figures(),
          all.map((durationMs) => success({ durationMs })),
        );
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  it('take in only the time that was asked for', async () => {
    await commit([success({ age: 0 }), success({ age: 59 }), success({ age: 60 }), success({ age: 1_500 })]);
    const last = (minutes: number) => figures({ ranges: rangesOf(END - minutes * 60_000, END, NOW) });
    for (const settle of [async () => {}, () => foldTallies(engine), () => addParts(engine)]) {
      await settle();
      expect((await last(1)).attempts).toBe(1);
      expect((await last(60)).attempts).toBe(2);
      expect((await last(61)).attempts).toBe(3);
      expect((await last(1_500)).attempts).toBe(3);
      expect((await last(1_501)).attempts).toBe(4);
    }
  });

  it('count once when several nodes add up at the same time', async () => {
    for (let n = 0; n < 30; n++) {
      await commit([success(), success({ webhook: WEBHOOKS[n % 3] as string })]);
      if (n % 3 === 0) await foldTallies(engine);
    }
    await Promise.all(
      [1, 2, 3, 4].map(async () => {
        for (let n = 0; n < 6; n++) {
          await foldTallies(engine);
          await addParts(engine, 2);
        }
      }),
    );
    while ((await addParts(engine)) > 0);
    expect((await engine.query('SELECT FROM rollup_parts')).rowCount).toBe(0);
    expect((await figures()).attempts).toBe(60);
    expect((await figures({ webhookIds: [WEBHOOKS[1] as string] })).attempts).toBe(10);
  });

  it('hold nothing of an environment that is gone, nor fail by it', async () => {
    await commit([success({ tenant: GONE }), success()]);
    await foldTallies(engine);
    await addParts(engine);
    expect((await engine.query('SELECT DISTINCT tenant_id FROM rollups_minute')).rows).toEqual([{ tenant_id: TENANT }]);
    expect((await figures()).attempts).toBe(1);
  });

  it('take what a program of an earlier version counted for no attempt', async () => {
    await engine.query("INSERT INTO webhook_tallies (tallies) VALUES ('{}')");
    await commit([success()]);
    expect((await figures()).attempts).toBe(1);
    await foldTallies(engine);
    expect((await figures()).attempts).toBe(1);
  });

  it('go when their time is over, the minutes first', async () => {
    await commit([
      success({ age: 10 }),
      success({ age: 4 * 1_440 }),
      success({ age: 100 * 1_440 }),
      success({ age: 800 * 1_440 }),
    ]);
    await foldTallies(engine);
    await addParts(engine);
    await purgeRollups(engine, NOW);
    const kept = async (level: Level) => (await figures({ ranges: [{ level, fromMs: 0, toMs: END }] })).attempts;
    expect([await kept('minute'), await kept('hour'), await kept('day')]).toEqual([1, 2, 3]);
  });
});
