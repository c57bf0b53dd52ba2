import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openDatabase } from '../../db/pool.ts';
import type { Scope } from '../../http/caller.ts';
import { systemClock } from '../../kernel/clock.ts';
import { createLogger } from '../../kernel/logger.ts';
import { eventually } from '../../testing/eventually.ts';
import { runChunk } from './chunk.ts';
import { openRecoveryFixture, type RecoveryFixture } from './recovery-fixture.ts';
import { startReplayWorker } from './worker.ts';

let fixture: RecoveryFixture;
let scope: Scope;
let webhook: string;
beforeAll(async () => {
  fixture = await openRecoveryFixture();
});
afterAll(() => fixture.close());
beforeEach(async () => {
  await fixture.handle.pool.query(`UPDATE replay_jobs SET status = 'cancelled'`);
  scope = await fixture.addTenant();
  webhook = await fixture.addWebhook(scope);
});

/** Chunks until there is nothing to do at the moment; gives their number. */
async function runAll(options = fixture.options): Promise<number> {
  let chunks = 0;
  while (await runChunk(options)) chunks += 1;
  return chunks;
}
/** What waits is taken up, as the engine would. */
const drain = () =>
  fixture.handle.pool.query('UPDATE deliveries SET due_at = NULL, lease_node = 1 WHERE due_at IS NOT NULL');
const progress = async (id: string) => {
  const { status, replayed, skipped } = await fixture.job(id);
  return { status, replayed, skipped };
};

test('dead and cancelled deliveries go on themselves, delivered ones are made anew, and the others are skipped', async () => {
  await fixture.addDeliveries(scope, webhook, 'dead', 2, { attemptCount: 8 });
  await fixture.addDeliveries(scope, webhook, 'cancelled', 1, { attemptCount: 0 });
  const delivered = await fixture.addDeliveries(scope, webhook, 'delivered', 3);
  await fixture.addDeliveries(scope, webhook, 'dead', 1, { deadLetter: false });
  await fixture.addDeliveries(scope, webhook, 'delivered', 1, { trigger: 'test' });
  await fixture.addDeliveries(scope, webhook, 'delivered', 1, { data: null });
  await fixture.addDeliveries(scope, webhook, 'discarded', 1);
  await fixture.addDeliveries(scope, webhook, 'failed', 1, { dueAt: '2026-02-01' });
  const deleted = await fixture.addDeliveries(scope, fixture.newId(), 'dead', 1);
  const job = await fixture.addJob(scope);
  expect(await progress(job)).toEqual({ status: 'queued', replayed: 0, skipped: 0 });
  await runAll();
  expect(await progress(job)).toEqual({ status: 'completed', replayed: 6, skipped: 6 });
  expect(await fixture.count(scope)).toEqual({
    'failed replay due': 2,
    'pending replay due': 4,
    'delivered scheduled': 4,
    'delivered test': 1,
    'dead scheduled': 2,
    'discarded scheduled': 1,
    'failed scheduled later': 1,
  });
  const { rows } = await fixture.handle.pool.query(
    `SELECT event_id FROM deliveries WHERE tenant_id = $1 AND status = 'pending' AND id <> event_id ORDER BY id`,
    [scope.tenantId],
  );
  expect(rows.map(({ event_id }) => event_id)).toEqual(delivered);
  const letters = await fixture.handle.pool.query('SELECT delivery_id FROM dead_letters WHERE tenant_id = $1', [
    scope.tenantId,
  ]);
  expect(letters.rows).toEqual([{ delivery_id: deleted[0] }]);
});

test('a job takes only what its filter means: webhook, type, status and time', async () => {
  const other = await fixture.addWebhook(scope);
  await fixture.addDeliveries(scope, webhook, 'cancelled', 1);
  fixture.clock.advance(1);
  const sinceMs = fixture.clock.now();
  await fixture.addDeliveries(scope, webhook, 'cancelled', 2);
  await fixture.addDeliveries(scope, webhook, 'cancelled', 1, { eventType: 'order.lost' });
  await fixture.addDeliveries(scope, webhook, 'delivered', 1);
  await fixture.addDeliveries(scope, other, 'cancelled', 1);
  fixture.clock.advance(1);
  const untilMs = fixture.clock.now();
  await fixture.addDeliveries(scope, webhook, 'cancelled', 1);
  const filter = { webhookId: webhook, eventType: 'order.paid', statuses: ['cancelled'] as const, sinceMs, untilMs };
  const job = await fixture.addJob(scope, filter);
  await runAll();
  expect(await progress(job)).toEqual({ status: 'completed', replayed: 2, skipped: 0 });
  expect(await fixture.count(scope)).toMatchObject({ 'cancelled scheduled': 4, 'failed replay due': 2 });
});

test('a job keeps to the response status, the part of the type and the event it was made for, in every chunk', async () => {
  const answered = { responseStatus: 404, eventType: 'order.paid_late' };
  const [one] = await fixture.addDeliveries(scope, webhook, 'dead', 450, answered);
  await fixture.addDeliveries(scope, webhook, 'dead', 1, { ...answered, responseStatus: 500 });
  await fixture.addDeliveries(scope, webhook, 'dead', 1, { ...answered, eventType: 'order.paid' });
  await fixture.addDeliveries(scope, webhook, 'dead', 1);
  const filter = { statuses: ['dead'] as const, responseStatus: 404, q: 'D_L' };
  const ofEvent = await fixture.addJob(scope, { ...filter, eventId: one });
  await runAll();
  expect(await progress(ofEvent)).toEqual({ status: 'completed', replayed: 1, skipped: 0 });
  const job = await fixture.addJob(scope, filter);
  expect(await runAll()).toBe(3);
  expect(await progress(job)).toEqual({ status: 'completed', replayed: 449, skipped: 0 });
  expect(await fixture.count(scope)).toEqual({ 'failed replay due': 450, 'dead scheduled': 3 });
});

test('what has got another response status by the time a job comes to it is skipped', async () => {
  const [retried] = await fixture.addDeliveries(scope, webhook, 'dead', 2, { responseStatus: 404 });
  const job = await fixture.addJob(scope, { statuses: ['dead'], responseStatus: 404 });
  const { pool } = fixture.handle;
  const retry = await pool.connect();
  try {
    await retry.query('BEGIN');
    await retry.query('UPDATE deliveries SET response_status = 500 WHERE id = $1', [retried]);
    await retry.query('UPDATE dead_letters SET response_status = 500 WHERE delivery_id = $1', [retried]);
    const chunk = runChunk(fixture.options);
    const waiting = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    await expect.poll(async () => (await pool.query(waiting)).rowCount).toBe(1);
    await retry.query('COMMIT');
    await chunk;
  } finally {
    retry.release(true);
  }
  expect(await progress(job)).toEqual({ status: 'completed', replayed: 1, skipped: 1 });
  expect(await fixture.count(scope)).toEqual({ 'dead scheduled': 1, 'failed replay due': 1 });
});

test('a webhook that is not active gets what is replayed once it is: it is held', async () => {
  const paused = await fixture.addWebhook(scope, 'paused');
  await fixture.addDeliveries(scope, paused, 'delivered', 1);
  await fixture.addDeliveries(scope, paused, 'dead', 1);
  await fixture.addJob(scope);
  await runAll();
  expect(await fixture.count(scope)).toEqual({ 'held replay later': 2, 'delivered scheduled': 1 });
});

test('never more than 500 due deliveries wait for a webhook; the job goes on when they are taken up', async () => {
  await fixture.addDeliveries(scope, webhook, 'pending', 350, { dueAt: '2026-01-01' });
  // What waits for a later retry is in nobody's way.
  await fixture.addDeliveries(scope, webhook, 'failed', 600, { dueAt: '2027-01-01' });
  const other = await fixture.addWebhook(scope);
  await fixture.addDeliveries(scope, webhook, 'dead', 700);
  await fixture.addDeliveries(scope, other, 'dead', 1);
  const job = await fixture.addJob(scope);
  await runAll();
  expect(await progress(job)).toEqual({ status: 'running', replayed: 150, skipped: 950 });
  await runAll();
  fixture.clock.advance(1_000);
  await runAll();
  expect((await progress(job)).replayed).toBe(150);
  for (const replayed of [650, 701]) {
    await drain();
    fixture.clock.advance(1_000);
    await runAll();
    expect((await progress(job)).replayed).toBe(replayed);
  }
  expect((await progress(job)).status).toBe('completed');
});

test('tenants take turns, however many jobs one of them has', async () => {
  const crowd = scope;
  const quiet = await fixture.addTenant();
  const lone = await fixture.addWebhook(quiet);
  await fixture.addDeliveries(crowd, webhook, 'dead', 450);
  await fixture.addDeliveries(quiet, lone, 'dead', 250);
  for (let count = 0; count < 5; count += 1) await fixture.addJob(crowd);
  const job = await fixture.addJob(quiet);
  for (const [chunks, expected] of [
    [1, 0],
    [2, 200],
    [3, 200],
    [4, 250],
  ] as const) {
    await runChunk(fixture.options);
    fixture.clock.advance(1);
    expect([chunks, (await progress(job)).replayed]).toEqual([chunks, expected]);
  }
});

test('a statement looks at 5,000 deliveries at most, and the job finds those behind them', async () => {
  await fixture.addDeliveries(scope, webhook, 'delivered', 5_100);
  await fixture.addDeliveries(scope, webhook, 'cancelled', 1);
  const job = await fixture.addJob(scope, { statuses: ['cancelled'] });
  await runChunk(fixture.options);
  expect(await progress(job)).toEqual({ status: 'running', replayed: 0, skipped: 0 });
  await runChunk(fixture.options);
  expect(await progress(job)).toEqual({ status: 'completed', replayed: 1, skipped: 0 });
});

test('a job never takes up what it made itself, also where another clock is ahead', async () => {
  await fixture.addDeliveries(scope, webhook, 'delivered', 1);
  const job = await fixture.addJob(scope, { untilMs: fixture.clock.now() + 5_000 });
  expect(await runAll()).toBe(0);
  fixture.clock.advance(5_000);
  await runAll();
  expect(await progress(job)).toEqual({ status: 'completed', replayed: 1, skipped: 0 });
});

test('two nodes at work on one job replay every delivery once', async () => {
  await fixture.addDeliveries(scope, webhook, 'delivered', 450);
  const job = await fixture.addJob(scope);
  const second = openDatabase({ connection: fixture.database.connection, logger: createLogger('silent') });
  try {
    const work = async (options: typeof fixture.options) => {
      while ((await fixture.job(job)).status !== 'completed') await runChunk(options);
    };
    await Promise.all([work(fixture.options), work({ ...fixture.options, db: second.db })]);
  } finally {
    await second.close();
  }
  expect(await progress(job)).toEqual({ status: 'completed', replayed: 450, skipped: 0 });
  expect(await replaysOfEachEvent()).toEqual([{ replays: 1, events: 450 }]);
});

test('a process killed within a chunk has done nothing of it, and the next one does it', async () => {
  const ids = await fixture.addDeliveries(scope, webhook, 'delivered', 250);
  const job = await fixture.addJob(scope);
  await runChunk(fixture.options);
  const blocker = new pg.Client(fixture.database.connection);
  await blocker.connect();
  try {
    await blocker.query('BEGIN');
    await blocker.query('SELECT FROM deliveries WHERE id = $1 FOR UPDATE', [ids.at(-1)]);
    const killed = runChunk(fixture.options).then(
      () => 'done',
      () => 'killed',
    );
    const waiting = `FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    await eventually(
      () => blocker.query(`SELECT ${waiting}`),
      ({ rowCount }) => rowCount === 1,
    );
    await blocker.query(`SELECT pg_terminate_backend(pid) ${waiting}`);
    expect(await killed).toBe('killed');
    await blocker.query('ROLLBACK');
  } finally {
    await blocker.end();
  }
  expect(await progress(job)).toEqual({ status: 'running', replayed: 200, skipped: 0 });
  await runAll();
  expect(await progress(job)).toEqual({ status: 'completed', replayed: 250, skipped: 0 });
  expect(await replaysOfEachEvent()).toEqual([{ replays: 1, events: 250 }]);
});

test('a worker that is stopped between two chunks leaves the rest to the next one', async () => {
  await fixture.addDeliveries(scope, webhook, 'delivered', 450);
  const job = await fixture.addJob(scope);
  // Real time passes here, and the ids that it makes are behind the job's end, as they must be.
  const options = { ...fixture.options, clock: systemClock };
  for (let worker = 0; worker < 3; worker += 1) {
    const before = (await fixture.job(job)).replayed;
    const replays = startReplayWorker(options);
    await eventually(
      () => fixture.job(job),
      ({ replayed }) => replayed > before,
    );
    await replays.stop();
  }
  expect(await progress(job)).toEqual({ status: 'completed', replayed: 450, skipped: 0 });
  expect(await replaysOfEachEvent()).toEqual([{ replays: 1, events: 450 }]);
});

test('a cancelled job adds nothing more, and what it has added stays', async () => {
  await fixture.addDeliveries(scope, webhook, 'dead', 300);
  const job = await fixture.addJob(scope);
  await runChunk(fixture.options);
  await fixture.handle.pool.query(`UPDATE replay_jobs SET status = 'cancelled' WHERE id = $1`, [job]);
  expect(await runAll()).toBe(0);
  expect(await fixture.count(scope)).toEqual({ 'failed replay due': 200, 'dead scheduled': 100 });
});

test('a chunk that always fails is tried again more and more seldom, while others go on; then the job has failed', async () => {
  await fixture.addDeliveries(scope, webhook, 'delivered', 1);
  const job = await fixture.addJob(scope);
  const quiet = await fixture.addTenant();
  const other = await fixture.addWebhook(quiet);
  await fixture.addDeliveries(quiet, other, 'dead', 1);
  // No delivery can be made anew: what is dead can still go on.
  await fixture.handle.pool.query(
    `ALTER TABLE deliveries ADD CONSTRAINT none_anew CHECK (status <> 'pending' OR attempt_count > 0) NOT VALID`,
  );
  try {
    await runChunk(fixture.options);
    expect(await fixture.job(job)).toMatchObject({ status: 'queued', failures: 1, replayed: 0 });
    const next = await fixture.addJob(quiet);
    await runAll();
    expect((await fixture.job(next)).status).toBe('completed');
    for (let failures = 2; failures <= 8; failures += 1) {
      expect(await runAll()).toBe(0);
      fixture.clock.advance(2 ** (failures - 1) * 1_000);
      expect(await runAll()).toBe(1);
      expect((await fixture.job(job)).failures).toBe(failures);
    }
    expect(await fixture.job(job)).toMatchObject({ status: 'failed', completed_at: expect.any(Date) });
  } finally {
    await fixture.handle.pool.query('ALTER TABLE deliveries DROP CONSTRAINT none_anew');
  }
});

async function replaysOfEachEvent() {
  const { rows } = await fixture.handle.pool.query(
    `SELECT replays, count(*) AS events FROM (
       SELECT count(*) AS replays FROM deliveries WHERE tenant_id = $1 AND trigger = 'replay' GROUP BY event_id
     ) AS each GROUP BY 1`,
    [scope.tenantId],
  );
  return rows;
}
