import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { formatId } from '../../kernel/ids.ts';
import { type ProgramFixture, startProgram } from './program-fixture.ts';

let program: ProgramFixture;
let sql: pg.Client;
// biome-ignore lint/suspicious/noExplicitAny: an answer that tests look into
let webhook: any;
beforeAll(async () => {
  program = await startProgram();
  sql = new pg.Client(program.posthorn.database.connection);
  await sql.connect();
});
afterAll(async () => {
  await sql.end();
  await program.stop();
});
beforeEach(async () => {
  program.receiver.requests.length = 0;
  program.receiver.onRequest = (request) => request.respond(200);
  webhook = await program.createWebhook();
  return () => program.posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
});

const since = '2020-01-01T00:00:00Z';
const until = '2099-01-01T00:00:00Z';
const failing = () => {
  program.receiver.onRequest = (request) => request.respond(500);
};
const working = () => {
  program.receiver.onRequest = (request) => request.respond(200);
};
const remove = (id: string, headers?: Record<string, string>) =>
  program.posthorn.call('DELETE', `/api/v1/replays/${id}`, undefined, headers);

/** New jobs stay queued while `work` runs. */
async function whileQueued(work: () => Promise<void>): Promise<void> {
  await sql.query(`
    DELETE FROM replay_jobs;
    CREATE FUNCTION keep_queued() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN NEW.next_chunk_at := '2099-01-01'; RETURN NEW; END $$;
    CREATE TRIGGER keep_queued BEFORE INSERT ON replay_jobs FOR EACH ROW EXECUTE FUNCTION keep_queued();`);
  try {
    await work();
  } finally {
    await sql.query('DROP FUNCTION keep_queued() CASCADE; DELETE FROM replay_jobs');
  }
}

test('a replay of a time range delivers again with the same webhook-id, and its attempts say so', async () => {
  const delivered = await program.publish({ event_type: 'order.kept' });
  await program.deliveryIn('delivered', delivered);
  failing();
  const dead = await program.publish({ event_type: 'order.kept' });
  const given = await program.deliveryIn('dead', dead);
  const other = await program.publish({ event_type: 'order.other' });
  await program.deliveryIn('dead', other);
  working();
  const filter = { webhook_id: webhook.id, event_type: 'order.kept' };
  const answer = await program.post('/replays', { ...filter, since, until });
  expect(answer.status).toBe(202);
  expect(answer.body).toMatchObject({
    id: expect.stringMatching(/^rpl_/),
    trigger: 'replays',
    status: 'queued',
    filter: { ...filter, status: null, since: '2020-01-01T00:00:00.000Z' },
    estimated_deliveries: 2,
    estimate_is_exact: true,
    replayed: 0,
    skipped: 0,
    started_at: null,
    completed_at: null,
  });
  // What is made from now on, the replays too, is not meant.
  expect(Date.parse(answer.body.filter.until)).toBeLessThanOrEqual(Date.now());
  expect(await program.ended(answer.body.id)).toMatchObject({ status: 'completed', replayed: 2, skipped: 0 });

  const requests = await program.receiver.received(5);
  expect(
    requests
      .slice(3)
      .map(({ headers }) => headers['webhook-id'])
      .sort(),
  ).toEqual([delivered, dead].sort());
  await program.deliveryIn('delivered', dead);
  const resumed = await program.get(`/deliveries/${given.id}`);
  expect(resumed.attempts.map(({ number, trigger }: { number: number; trigger: string }) => [number, trigger])).toEqual(
    [
      [1, 'scheduled'],
      [2, 'replay'],
    ],
  );
  await program.deliveryIn('delivered', delivered);
  const { data: both } = await program.get(`/deliveries?event_id=${delivered}`);
  expect(both).toHaveLength(2);
  expect((await program.get(`/deliveries/${both[0].id}`)).attempts).toMatchObject([{ number: 1, trigger: 'replay' }]);
  expect((await program.get(`/dead-letters?webhook_id=${webhook.id}`)).data).toMatchObject([{ event_id: other }]);
});

test('a replay that fails again is dead again: one attempt where none are left', async () => {
  failing();
  const event = await program.publish();
  const { id } = await program.deliveryIn('dead', event);
  const job = await program.post('/replays', { webhook_id: webhook.id, status: 'dead', since, until });
  await program.ended(job.body.id);
  await program.receiver.received(2);
  await program.deliveryIn('dead', event);
  expect((await program.get(`/deliveries/${id}`)).attempts).toHaveLength(2);
  expect((await program.get(`/dead-letters?webhook_id=${webhook.id}`)).data).toMatchObject([{ attempt_count: 2 }]);
});

test('recover delivers the dead deliveries of one webhook since a time, and no others', async () => {
  const other = await program.createWebhook();
  failing();
  const early = await program.publish();
  await program.deliveryIn('dead', early);
  const from = new Date().toISOString();
  const late = await program.publish();
  for (const { id } of [webhook, other]) {
    await expect.poll(async () => (await program.get(`/dead-letters?webhook_id=${id}`)).data).toHaveLength(2);
  }
  working();
  program.receiver.requests.length = 0;
  const delivered = await program.publish({ event_type: 'order.fine' });
  await program.receiver.received(2);
  const job = await program.post(`/webhooks/${webhook.id}/recover`, { since: from });
  expect(job.status).toBe(202);
  expect(job.body).toMatchObject({
    trigger: 'recover',
    filter: { webhook_id: webhook.id, status: ['dead'] },
    estimated_deliveries: 1,
  });
  expect(await program.ended(job.body.id)).toMatchObject({ status: 'completed', replayed: 1, skipped: 0 });
  const requests = await program.receiver.received(3);
  expect(requests.map(({ headers }) => headers['webhook-id'])).toEqual([delivered, delivered, late]);
  expect((await program.get(`/dead-letters?webhook_id=${webhook.id}`)).data).toMatchObject([{ event_id: early }]);
  expect((await program.get(`/dead-letters?webhook_id=${other.id}`)).data).toHaveLength(2);
  await program.posthorn.call('DELETE', `/api/v1/webhooks/${other.id}`);
});

test('a dry run says how many are meant and makes no job', async () => {
  await program.deliveryIn('delivered', await program.publish());
  const before = await program.get('/replays');
  const filter = { webhook_id: webhook.id, status: ['delivered', 'cancelled'] };
  const answer = await program.post('/replays', { ...filter, since, until, dry_run: true });
  expect(answer.status).toBe(200);
  expect(answer.body).toMatchObject({ dry_run: true, filter, estimated_deliveries: 1, estimate_is_exact: true });
  const recover = await program.post(`/webhooks/${webhook.id}/recover`, { since, dry_run: true });
  expect([recover.status, recover.body.estimated_deliveries]).toEqual([200, 0]);
  expect(await program.get('/replays')).toEqual(before);
});

test('the same request with its Idempotency-Key makes one job', async () => {
  const body = { webhook_id: webhook.id, since, until };
  const headers = { 'idempotency-key': `replay-${webhook.id}` };
  const first = await program.post('/replays', body, headers);
  expect((await program.post('/replays', body, headers)).body).toEqual(first.body);
});

test.each([
  ['since is missing', { until }, 'since'],
  ['until is missing', { since }, 'until'],
  ['since is no time', { since: 'yesterday', until }, 'since'],
  ['since is a time that does not exist', { since: '2016-12-31T23:59:60Z', until }, 'since'],
  ['since is to come', { since: '2098-01-01T00:00:00Z', until }, 'since'],
  ['until is before since', { since, until: '2019-01-01T00:00:00Z' }, 'since'],
  ['a status cannot be replayed', { since, until, status: 'held' }, 'status'],
  ['a status in the list cannot', { since, until, status: ['dead', 'pending'] }, 'status'],
  ['no status is named', { since, until, status: [] }, 'status'],
  ['the type holds a NUL', { since, until, event_type: 'a\0b' }, 'event_type'],
  ['the webhook’s id is none', { since, until, webhook_id: 'whk_x' }, 'webhook_id'],
  [
    'the webhook is unknown',
    { since, until, webhook_id: formatId('webhook', '019b0000-0000-7000-8000-000000000000') },
    'webhook_id',
  ],
  ['a field is unknown', { since, until, webhookid: 'x' }, 'webhookid'],
  ['a field is a prototype’s', `{"since":"${since}","until":"${until}","__proto__":{"dry_run":true}}`, '__proto__'],
])('a replay is refused when %s', async (_name, body, path) => {
  const answer = await program.post('/replays', body);
  expect(answer.status).toBe(422);
  expect(answer.body.error.details.fields[0].path).toMatch(new RegExp(`^${path}`));
});

describe('a job', () => {
  test('is listed and paged newest first, and can be cancelled, also twice', async () => {
    await whileQueued(async () => {
      const ids: string[] = [];
      for (let count = 0; count < 3; count += 1) {
        ids.push((await program.post('/replays', { since, until, webhook_id: webhook.id })).body.id);
      }
      const first = await program.get('/replays?limit=2');
      expect(first.data.map(({ id }: { id: string }) => id)).toEqual([ids[2], ids[1]]);
      const second = await program.get(`/replays?limit=2&cursor=${first.next_cursor}`);
      expect([second.data[0].id, second.has_more]).toEqual([ids[0], false]);
      const id = ids[0] ?? '';
      const cancelled = await remove(id);
      expect([cancelled.status, cancelled.body.status]).toEqual([200, 'cancelled']);
      expect((await remove(id)).body).toEqual(cancelled.body);
      expect(await program.get(`/replays/${id}`)).toEqual(cancelled.body);
    });
  });

  test('that has ended cannot be cancelled', async () => {
    const job = await program.post('/replays', { since, until, webhook_id: webhook.id });
    const ended = await program.ended(job.body.id);
    expect(ended).toMatchObject({
      status: 'completed',
      started_at: expect.any(String),
      completed_at: expect.any(String),
    });
    const answer = await remove(job.body.id);
    expect([answer.status, answer.body.error.code]).toEqual([409, 'replay_ended']);
    expect(await program.get(`/replays/${job.body.id}`)).toEqual(ended);
  });

  test('is one of ten unfinished ones of its environment at most', async () => {
    await whileQueued(async () => {
      const ask = (headers?: Record<string, string>) => program.post('/replays', { since, until }, headers);
      const answers = await Promise.all(Array.from({ length: 15 }, () => ask()));
      const refused = answers.filter(({ status }) => status !== 202);
      expect(refused.map(({ status, body }) => [status, body.error.code])).toEqual(
        Array(5).fill([409, 'too_many_replays']),
      );
      expect((await ask({ 'x-environment': 'staging' })).status).toBe(202);
      await remove((await program.get('/replays')).data[0].id);
      expect((await ask()).status).toBe(202);
    });
  });

  test('is seen and cancelled in its own environment only, and names only webhooks of it', async () => {
    const stranger = await program.addTenant('replay-stranger');
    await whileQueued(async () => {
      const { id } = (await program.post('/replays', { since, until })).body;
      const never = await remove('rpl_nonsense');
      for (const headers of [stranger, { 'x-environment': 'staging' }]) {
        for (const answer of [
          await remove(id, headers),
          await program.posthorn.call('GET', `/api/v1/replays/${id}`, undefined, headers),
        ]) {
          expect(answer.status).toBe(404);
          expect({ ...answer.body.error, request_id: '' }).toEqual({ ...never.body.error, request_id: '' });
        }
        expect((await program.get('/replays', headers)).data).toEqual([]);
        const body = { since, until, webhook_id: webhook.id };
        expect((await program.post('/replays', body, headers)).status).toBe(422);
        expect((await program.post(`/webhooks/${webhook.id}/recover`, { since }, headers)).status).toBe(404);
      }
      expect((await program.get(`/replays/${id}`)).status).toBe('queued');
    });
  });

  test('replays nothing of another tenant or environment', async () => {
    const stranger = await program.addTenant('replay-neighbour');
    await program.deliveryIn('delivered', await program.publish());
    await program.createWebhook({}, stranger);
    const theirs = await program.publish({}, stranger);
    await program.receiver.received(2);
    await expect
      .poll(async () => (await program.get(`/deliveries?event_id=${theirs}`, stranger)).data[0].status)
      .toBe('delivered');
    const job = await program.post('/replays', { since, until }, stranger);
    await expect.poll(async () => (await program.get(`/replays/${job.body.id}`, stranger)).status).toBe('completed');
    expect(await program.get(`/replays/${job.body.id}`, stranger)).toMatchObject({ replayed: 1, skipped: 0 });
    const requests = await program.receiver.received(3);
    expect(requests.slice(2).map(({ headers }) => headers['webhook-id'])).toEqual([theirs]);
    const staging = await program.post('/replays', { since, until, dry_run: true }, { 'x-environment': 'staging' });
    expect(staging.body.estimated_deliveries).toBe(0);
  });

  test('is made by developers, and read by viewers too', async () => {
    const body = { since, until, webhook_id: webhook.id };
    const { id } = (await program.post('/replays', body, await program.keyOf('developer'))).body;
    const viewer = await program.keyOf('viewer');
    expect((await program.get(`/replays/${id}`, viewer)).id).toBe(id);
    for (const headers of [viewer, await program.keyOf('publisher')]) {
      expect((await program.post('/replays', body, headers)).status).toBe(403);
      expect((await program.post(`/webhooks/${webhook.id}/recover`, { since }, headers)).status).toBe(403);
      expect((await remove(id, headers)).status).toBe(403);
    }
  });
});
