import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Scope } from '../../http/caller.ts';
import type { RecoveryFilter } from './filter.ts';
import { listJobs, purgeReplayJobs } from './jobs.ts';
import { purgeDeadLetters } from './purge.ts';
import { openRecoveryFixture, type RecoveryFixture } from './recovery-fixture.ts';
import { estimate, firstCursor, nextStretch } from './walk.ts';

let fixture: RecoveryFixture;
beforeAll(async () => {
  fixture = await openRecoveryFixture();
});
afterAll(() => fixture.close());

const everything = (): RecoveryFilter => ({
  webhookId: undefined,
  eventType: undefined,
  statuses: undefined,
  sinceMs: undefined,
  untilMs: fixture.clock.now() + 1,
});

/** All that a walk gives, with the number of its stretches. */
async function walk(scope: Scope, filter: RecoveryFilter, idsMax: number) {
  const ids: string[] = [];
  let cursor = firstCursor(filter);
  for (let stretches = 1; ; stretches += 1) {
    const stretch = await nextStretch(fixture.handle.db, scope, filter, cursor, idsMax);
    ids.push(...stretch.ids);
    if (stretch.isLast) return { ids, stretches };
    cursor = stretch.cursor;
  }
}

test('a walk gives each delivery once and in order, whatever the size of its stretches', async () => {
  const scope = await fixture.addTenant();
  const webhook = await fixture.addWebhook(scope);
  const stranger = await fixture.addTenant();
  const ids: string[] = [];
  for (let round = 0; round < 5; round += 1) {
    ids.push(...(await fixture.addDeliveries(scope, webhook, 'dead', 3)));
    await fixture.addDeliveries(scope, webhook, 'delivered', 2);
    await fixture.addDeliveries(scope, await fixture.addWebhook(scope), 'delivered', 1);
    await fixture.addDeliveries(stranger, await fixture.addWebhook(stranger), 'dead', 1);
  }
  for (const statuses of [['dead'], ['dead', 'cancelled']] as const) {
    for (const webhookId of [undefined, webhook]) {
      const filter = { ...everything(), statuses, webhookId };
      for (const idsMax of [1, 3, 4, 15, 16]) expect((await walk(scope, filter, idsMax)).ids).toEqual(ids);
      expect(await estimate(fixture.handle.db, scope, filter)).toEqual({ count: 15, isExact: true });
    }
  }
  expect((await walk(scope, everything(), 4)).ids).toHaveLength(30);
  const elsewhere = { ...everything(), webhookId: webhook };
  expect((await walk({ ...scope, environmentId: fixture.newId() }, elsewhere, 4)).ids).toEqual([]);
  expect((await walk(stranger, elsewhere, 4)).ids).toEqual([]);
});

test.each([
  ['dead letters', ['dead'] as const],
  ['all deliveries', undefined],
])('a rare match among %s is found 5,000 rows at a time, that of an event at once', async (_name, statuses) => {
  const scope = await fixture.addTenant();
  const webhook = await fixture.addWebhook(scope);
  await fixture.addDeliveries(scope, webhook, 'dead', 10_100, { responseStatus: 500 });
  const rare = await fixture.addDeliveries(scope, webhook, 'dead', 1, { responseStatus: 404, eventType: 'x.rare_y' });
  const filter = { ...everything(), statuses };
  const { db } = fixture.handle;
  for (const narrow of [
    { responseStatus: 404 },
    { q: 'RARE_' },
    { q: '.rare', responseStatus: 404, webhookId: webhook },
  ]) {
    const meant = { ...filter, ...narrow };
    expect((await nextStretch(db, scope, meant, firstCursor(meant), 200)).ids).toEqual([]);
    expect(await walk(scope, meant, 200)).toEqual({ ids: rare, stretches: 3 });
    expect(await estimate(db, scope, meant)).toEqual({ count: 1, isExact: true });
  }
  const ofEvent = { ...filter, eventId: rare[0] };
  for (const webhookId of [undefined, webhook]) {
    expect(await walk(scope, { ...ofEvent, webhookId }, 200)).toEqual({ ids: rare, stretches: 1 });
  }
  const stranger = await fixture.addTenant();
  for (const [elsewhere, meant] of [
    [scope, { ...ofEvent, webhookId: fixture.newId() }],
    [scope, { ...ofEvent, q: 'order' }],
    [{ ...scope, environmentId: fixture.newId() }, ofEvent],
    [stranger, ofEvent],
  ] as const) {
    expect(await walk(elsewhere, meant, 200)).toEqual({ ids: [], stretches: 1 });
  }
});

test('beyond the rows that are counted an estimate is the planner’s, and says so', async () => {
  const scope = await fixture.addTenant();
  const webhook = await fixture.addWebhook(scope);
  await fixture.addDeliveries(scope, webhook, 'delivered', 3_000);
  await fixture.handle.pool.query('ANALYZE deliveries');
  const filter = { ...everything(), webhookId: webhook };
  expect(await estimate(fixture.handle.db, scope, filter)).toEqual({ count: 3_000, isExact: true });
  const rough = await estimate(fixture.handle.db, scope, filter, 100);
  expect(rough.isExact).toBe(false);
  expect(rough.count).toBeGreaterThan(300);
  expect(rough.count).toBeLessThan(30_000);
});

test('a purge goes on until everything that is meant is gone, 5,000 a time', async () => {
  const scope = await fixture.addTenant();
  const webhook = await fixture.addWebhook(scope);
  const [kept] = await fixture.addDeliveries(scope, webhook, 'dead', 1, { eventType: 'order.kept' });
  await fixture.addDeliveries(scope, webhook, 'dead', 10_100);
  const filter = { ...everything(), statuses: ['dead'] as const };
  expect(await purgeDeadLetters(fixture.handle.db, scope, { ...filter, eventType: 'order.paid' })).toBe(10_100);
  expect((await walk(scope, filter, 5)).ids).toEqual([kept]);
});

test('a purge that cannot let the key of a dead letter go on removes nothing', async () => {
  const { db, pool } = fixture.handle;
  const scope = await fixture.addTenant();
  const webhook = await fixture.addWebhook(scope);
  const [dead] = await fixture.addDeliveries(scope, webhook, 'dead', 1);
  await pool.query(
    `INSERT INTO parked_keys (tenant_id, webhook_id, ordering_key, delivery_id, parked_at) VALUES ($1, $2, 'k', $3, now())`,
    [scope.tenantId, webhook, dead],
  );
  const filter = { ...everything(), statuses: ['dead'] as const };
  const parked = async () => (await pool.query('SELECT FROM parked_keys WHERE delivery_id = $1', [dead])).rowCount;

  await pool.query(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
    CREATE TRIGGER refuse BEFORE DELETE ON parked_keys FOR EACH ROW EXECUTE FUNCTION refuse()`);
  await expect(purgeDeadLetters(db, scope, filter)).rejects.toThrow('refused');
  await pool.query('DROP FUNCTION refuse CASCADE');
  expect([(await walk(scope, filter, 5)).ids, await parked()]).toEqual([[dead], 1]);

  expect(await purgeDeadLetters(db, scope, filter)).toBe(1);
  expect([(await walk(scope, filter, 5)).ids, await parked()]).toEqual([[], 0]);
});

test('a purge leaves a letter that is of another status by the time it comes to it, and the key that waits for it', async () => {
  const { db, pool } = fixture.handle;
  const scope = await fixture.addTenant();
  const webhook = await fixture.addWebhook(scope);
  const [retried, other] = await fixture.addDeliveries(scope, webhook, 'dead', 2, { responseStatus: 404 });
  await pool.query(
    `INSERT INTO parked_keys (tenant_id, webhook_id, ordering_key, delivery_id, parked_at)
     SELECT $1, $2, id::text, id, now() FROM unnest($3::uuid[]) AS i (id)`,
    [scope.tenantId, webhook, [retried, other]],
  );
  const retry = await pool.connect();
  const filter = { ...everything(), statuses: ['dead'] as const };
  try {
    await retry.query('BEGIN');
    await retry.query('UPDATE dead_letters SET response_status = 500 WHERE delivery_id = $1', [retried]);
    const purging = purgeDeadLetters(db, scope, { ...filter, responseStatus: 404 });
    const waiting = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    await expect.poll(async () => (await pool.query(waiting)).rowCount).toBe(1);
    await retry.query('COMMIT');
    expect(await purging).toBe(1);
  } finally {
    retry.release(true);
  }
  const parked = await pool.query('SELECT delivery_id FROM parked_keys WHERE tenant_id = $1', [scope.tenantId]);
  expect([(await walk(scope, filter, 5)).ids, parked.rows]).toEqual([[retried], [{ delivery_id: retried }]]);
});

test('ended jobs are forgotten after 30 days, unfinished ones never', async () => {
  const scope = await fixture.addTenant();
  const [ended, recent, unfinished] = [
    await fixture.addJob(scope),
    await fixture.addJob(scope),
    await fixture.addJob(scope),
  ];
  const end = (id: string, days: number) =>
    fixture.handle.pool.query(`UPDATE replay_jobs SET status = 'completed', completed_at = $2 WHERE id = $1`, [
      id,
      new Date(fixture.clock.now() - days * 86_400_000),
    ]);
  await end(ended, 31);
  await end(recent, 29);
  expect(await purgeReplayJobs(fixture.handle.db, fixture.clock.now())).toBe(1);
  const page = { limit: 10, beforeId: undefined };
  expect((await listJobs(fixture.handle.db, scope, page)).map(({ id }) => id)).toEqual([unfinished, recent]);
});

test('the jobs of an environment go with it', async () => {
  const scope = await fixture.addTenant();
  const job = await fixture.addJob(scope);
  await fixture.handle.db.deleteFrom('environments').where('tenant_id', '=', scope.tenantId).execute();
  await expect(fixture.job(job)).rejects.toThrow();
});
