import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { formatId, parseId } from '../../kernel/ids.ts';
import { eventually } from '../../testing/eventually.ts';
import { type ProgramFixture, startProgram } from './program-fixture.ts';

let program: ProgramFixture;
// biome-ignore lint/suspicious/noExplicitAny: an answer that tests look into
let webhook: any;
beforeAll(async () => {
  program = await startProgram();
});
afterAll(() => program.stop());
beforeEach(async () => {
  program.receiver.requests.length = 0;
  program.receiver.onRequest = (request) => request.respond(200);
  webhook = await program.createWebhook();
  return () => program.posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
});

const tomorrow = () => new Date(Date.now() + 86_400_000).toISOString();
const cancel = (id: string, headers?: Record<string, string>) =>
  program.post(`/deliveries/${id}/cancel`, undefined, headers);
const statusOf = async (id: string) => (await program.get(`/deliveries/${id}`)).status;

test('a delivery that waits for its time is cancelled, and cancelling it again changes nothing', async () => {
  const event = await program.publish({ deliver_at: tomorrow() });
  const { id } = await program.deliveryIn('pending', event);
  const first = await cancel(id);
  expect(first.status).toBe(200);
  expect(first.body).toMatchObject({
    id,
    status: 'cancelled',
    next_attempt_at: null,
    completed_at: expect.any(String),
  });
  const second = await cancel(id);
  expect([second.status, second.body]).toEqual([200, first.body]);
});

test('a delivery between attempts, and one of a paused webhook, are cancelled', async () => {
  await program.posthorn.call('PATCH', `/api/v1/webhooks/${webhook.id}`, { retry_count: 3 });
  program.receiver.onRequest = (request) => request.respond(500);
  const failed = await program.deliveryIn('failed', await program.publish());
  expect((await cancel(failed.id)).body).toMatchObject({ status: 'cancelled', attempt_count: 1, response_status: 500 });
  await program.post(`/webhooks/${webhook.id}/pause`);
  const held = await program.deliveryIn('held', await program.publish());
  expect((await cancel(held.id)).body.status).toBe('cancelled');
  await program.post(`/webhooks/${webhook.id}/resume`);
  expect([await statusOf(failed.id), await statusOf(held.id)]).toEqual(['cancelled', 'cancelled']);
  expect(program.receiver.requests).toHaveLength(1);
});

test('of a delivery under way every node is told; its request is recorded, and it stays cancelled', async () => {
  const notices: unknown[] = [];
  const listener = new pg.Client(program.posthorn.database.connection);
  await listener.connect();
  listener.on('notification', ({ payload }) => notices.push(JSON.parse(payload ?? '')));
  await listener.query('LISTEN posthorn_changes');
  try {
    program.receiver.onRequest = () => {};
    const { id } = await program.deliveryIn('pending', await program.publish());
    const [request] = await program.receiver.received(1);
    expect((await cancel(id)).body.status).toBe('cancelled');
    await eventually(
      async () => (await listener.query('SELECT')) && notices,
      () => notices.length > 0,
    );
    expect(notices).toEqual([
      {
        topic: 'deliveries_cancelled',
        tenantId: expect.any(String),
        environmentId: expect.any(String),
        deliveryIds: [parseId('delivery', id)],
      },
    ]);
    request?.respond(500);
    const shown = await eventually(
      () => program.get(`/deliveries/${id}`),
      ({ attempts }) => attempts.length > 0,
    );
    expect(shown).toMatchObject({ status: 'cancelled', next_attempt_at: null });
    expect(shown.attempts).toMatchObject([{ number: 1, trigger: 'scheduled', response_status: 500 }]);
    expect((await program.get(`/dead-letters?webhook_id=${webhook.id}`)).data).toEqual([]);
  } finally {
    await listener.end();
  }
});

test('a cancelled delivery can be tried again by hand', async () => {
  const { id, event_id } = await program.deliveryIn('pending', await program.publish({ deliver_at: tomorrow() }));
  await cancel(id);
  expect((await program.post(`/deliveries/${id}/retry`)).status).toBe(202);
  await program.deliveryIn('delivered', event_id);
  expect((await program.get(`/deliveries/${id}`)).attempts).toMatchObject([{ number: 1, trigger: 'manual' }]);
});

test('what has ended otherwise cannot be cancelled, nor can a test', async () => {
  const delivered = await program.deliveryIn('delivered', await program.publish());
  program.receiver.onRequest = (request) => request.respond(500);
  const dead = await program.deliveryIn('dead', await program.publish());
  const tested = (await program.post(`/webhooks/${webhook.id}/test`)).body.delivery_id;
  const discarded = await program.deliveryIn('pending', await program.publish({ deliver_at: tomorrow() }));
  await program.posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
  for (const [id, code, status] of [
    [delivered.id, 'already_delivered', 'delivered'],
    [dead.id, 'delivery_dead', 'dead'],
    [discarded.id, 'delivery_discarded', 'discarded'],
    [tested, 'test_delivery', 'dead'],
  ]) {
    const answer = await cancel(id);
    expect([answer.status, answer.body.error.code]).toEqual([409, code]);
    expect(await statusOf(id)).toBe(status);
  }
});

test('another tenant’s or environment’s delivery is as unknown as one that never was; viewers and publishers may not', async () => {
  const { id } = await program.deliveryIn('pending', await program.publish({ deliver_at: tomorrow() }));
  const stranger = await program.addTenant('cancel-stranger');
  const never = await cancel(formatId('delivery', '019b0000-0000-7000-8000-000000000000'));
  for (const answer of [
    await cancel(id, stranger),
    await cancel(id, { 'x-environment': 'staging' }),
    await cancel('dlv_nonsense'),
    await cancel(webhook.id),
  ]) {
    expect(answer.status).toBe(404);
    expect({ ...answer.body.error, request_id: '' }).toEqual({ ...never.body.error, request_id: '' });
  }
  for (const role of ['viewer', 'publisher']) expect((await cancel(id, await program.keyOf(role))).status).toBe(403);
  expect(await statusOf(id)).toBe('pending');
  expect((await cancel(id, await program.keyOf('developer'))).status).toBe(200);
});
