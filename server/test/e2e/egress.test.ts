import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';

/** The first attempt of an event that was published just now. */
async function firstAttempt(posthorn: TestPosthorn) {
  const event = await posthorn.call('POST', '/api/v1/events', { event_type: 'order.paid', data: { n: 1 } });
  const path = `/api/v1/deliveries?event_id=${event.body.event_id}`;
  const delivery = await eventually(
    async () => (await posthorn.call('GET', path)).body.data[0],
    (row) => row?.attempt_count === 1,
  );
  const shown = (await posthorn.call('GET', `/api/v1/deliveries/${delivery.id}`)).body;
  return { delivery: shown, attempt: shown.attempts[0] };
}

describe('without an allow list', () => {
  let posthorn: TestPosthorn;
  let receiver: Receiver;
  beforeAll(async () => {
    posthorn = await startTestPosthorn({ egressAllow: [] });
  });
  afterAll(() => posthorn.stop());
  beforeEach(async () => {
    receiver = await startReceiver();
  });
  afterEach(() => receiver.stop());

  const create = (url: string) => posthorn.call('POST', '/api/v1/webhooks', { name: 'Test', url, events: ['*'] });

  test('a webhook to the machine itself, however it is written, is a clear 422', async () => {
    const { port } = new URL(receiver.url);
    for (const host of ['127.0.0.1', '0x7f.1', '[::7f00:1]', '[64:ff9b::7f00:1]', 'localhost', '169.254.169.254']) {
      const answer = await create(`http://${host}:${port}/`);
      expect(answer.status, host).toBe(422);
      expect(answer.text, host).toContain('url: The destination is not a public address');
    }
    expect(receiver.requests).toEqual([]);
  });

  test('one that leads there all the same is refused when it is sent: an attempt of class blocked, and no packet', async () => {
    expect((await create('https://8.8.8.8/')).status).toBe(201);
    const client = new pg.Client(posthorn.database.connection);
    await client.connect();
    await client.query('UPDATE webhooks SET url = $1', [receiver.url]);
    await client.end();
    await posthorn.restart();
    const { attempt, delivery } = await firstAttempt(posthorn);
    expect(attempt).toMatchObject({
      error_class: 'blocked',
      error_message: 'The destination is not a public address (loopback).',
      response_status: null,
    });
    expect(delivery.status).toBe('failed');
    expect(receiver.requests).toEqual([]);
  });
});

describe('a receiver', () => {
  let posthorn: TestPosthorn;
  beforeAll(async () => {
    posthorn = await startTestPosthorn();
  });
  afterAll(() => posthorn.stop());

  test('whose name is not there is tried again later: class dns', async () => {
    const fields = { name: 'Gone', url: 'https://receiver.invalid/', events: ['*'] };
    const webhook = await posthorn.call('POST', '/api/v1/webhooks', fields);
    expect(webhook.status).toBe(201);
    const { attempt, delivery } = await firstAttempt(posthorn);
    expect(attempt).toMatchObject({ error_class: 'dns', response_status: null });
    expect(delivery.status).toBe('failed');
    expect(Date.parse(delivery.next_attempt_at)).toBeGreaterThan(Date.now());
    await posthorn.call('DELETE', `/api/v1/webhooks/${webhook.body.id}`);
  });

  test('that answers with no end is recorded up to its bound, and a healthy one beside stalling ones is served', async () => {
    const [endless, stalling, healthy] = [await startReceiver(), await startReceiver(), await startReceiver()];
    endless.onRequest = (request) => request.respond(200, {}, 'long'.repeat(100_000));
    stalling.onRequest = () => {};
    for (const { url } of [endless, stalling, healthy]) {
      await posthorn.call('POST', '/api/v1/webhooks', { name: 'Test', url, events: ['*'] });
    }
    const events = Array.from({ length: 20 }, (_, n) => ({ event_type: 'order.paid', data: { n } }));
    await posthorn.call('POST', '/api/v1/events/batch', { events });
    await healthy.received(20);
    await endless.received(20);
    const rows = await eventually(
      async () => (await posthorn.call('GET', '/api/v1/deliveries?status=delivered&limit=100')).body.data,
      (found) => found.length === 40,
    );
    const ids = rows.map((row: { id: string }) => row.id);
    const shown = await Promise.all(ids.map((id: string) => posthorn.call('GET', `/api/v1/deliveries/${id}`)));
    expect(shown.filter(({ body }) => body.attempts[0].response_truncated)).toHaveLength(20);
    for (const receiver of [endless, stalling, healthy]) await receiver.stop();
  });
});
