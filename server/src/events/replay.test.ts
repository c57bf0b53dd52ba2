import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ProgramFixture, startProgram } from '../delivery/recovery/program-fixture.ts';
import { formatId } from '../kernel/ids.ts';

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
  webhook = await program.createWebhook({ events: ['order.*'] });
  return () => program.posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
});

const tomorrow = () => new Date(Date.now() + 86_400_000).toISOString();
const replay = (id: string, body?: unknown, headers?: Record<string, string>) =>
  program.post(`/events/${id}/replay`, body, headers);
const erase = (id: string, headers?: Record<string, string>) =>
  program.posthorn.call('DELETE', `/api/v1/events/${id}/payload`, undefined, headers);
const deliveriesOf = async (id: string) => (await program.get(`/deliveries?event_id=${id}`)).data;
const delivered = async (fields?: object) => {
  const id = await program.publish(fields);
  await program.deliveryIn('delivered', id);
  return id;
};

describe('POST /events/{id}/replay', () => {
  test('sends the same event once more to all that are subscribed now, with the same webhook-id', async () => {
    const id = await delivered({ data: { n: 1.5 } });
    const late = await program.createWebhook({ events: ['*'] });
    const answer = await replay(id);
    expect(answer.status).toBe(202);
    expect(answer.body).toEqual({
      event_id: id,
      deliveries: 2,
      delivery_ids: [expect.any(String), expect.any(String)],
    });
    const requests = await program.receiver.received(3);
    expect(new Set(requests.map(({ headers }) => headers['webhook-id']))).toEqual(new Set([id]));
    expect(new Set(requests.map(({ body }) => body.toString())).size).toBe(1);
    for (const deliveryId of answer.body.delivery_ids) {
      await expect.poll(async () => (await program.get(`/deliveries/${deliveryId}`)).status).toBe('delivered');
      const { attempts } = await program.get(`/deliveries/${deliveryId}`);
      expect(attempts).toMatchObject([{ number: 1, trigger: 'replay', is_success: true }]);
    }
    expect((await program.get(`/events/${id}`)).deliveries).toHaveLength(3);
    await program.posthorn.call('DELETE', `/api/v1/webhooks/${late.id}`);
  });

  test('sends it to the webhooks named only, each once, whatever they are subscribed to', async () => {
    const id = await delivered();
    const other = await program.createWebhook({ events: ['invoice.paid'] });
    const answer = await replay(id, { webhook_ids: [other.id, other.id] });
    expect(answer.body.deliveries).toBe(1);
    await program.receiver.received(2);
    expect((await deliveriesOf(id)).map((row: { webhook_id: string }) => row.webhook_id)).toEqual([
      other.id,
      webhook.id,
    ]);
    await program.posthorn.call('DELETE', `/api/v1/webhooks/${other.id}`);
  });

  test('finds the event by the publisher’s own id too', async () => {
    await delivered({ event_id: 'order-7' });
    expect((await replay('order-7')).body).toMatchObject({ event_id: 'order-7', deliveries: 1 });
    expect(await program.receiver.received(2)).toHaveLength(2);
  });

  test('with its Idempotency-Key twice sends it once', async () => {
    const id = await delivered();
    const headers = { 'idempotency-key': `again-${id}` };
    const first = await replay(id, {}, headers);
    expect((await replay(id, {}, headers)).body).toEqual(first.body);
    expect(await deliveriesOf(id)).toHaveLength(2);
  });

  test('keeps it for a paused webhook until that is resumed', async () => {
    const id = await delivered();
    await program.post(`/webhooks/${webhook.id}/pause`);
    expect((await replay(id)).body.deliveries).toBe(1);
    await program.deliveryIn('held', id);
    await program.post(`/webhooks/${webhook.id}/resume`);
    const { id: delivery } = await program.deliveryIn('delivered', id);
    expect((await program.get(`/deliveries/${delivery}`)).attempts).toMatchObject([{ trigger: 'replay' }]);
  });

  test('of an event that nobody is subscribed to makes nothing', async () => {
    const id = await program.publish({ event_type: 'nobody.cares' });
    const answer = await replay(id);
    expect([answer.status, answer.body]).toEqual([202, { event_id: id, deliveries: 0, delivery_ids: [] }]);
  });

  test('names the webhooks that are not the caller’s, and then sends nothing', async () => {
    const id = await delivered();
    const stranger = await program.addTenant('replay-event-stranger');
    const theirs = await program.createWebhook({}, stranger);
    const unknown = formatId('webhook', '019b0000-0000-7000-8000-000000000000');
    const answer = await replay(id, { webhook_ids: [webhook.id, theirs.id, unknown, 'x'] });
    expect(answer.status).toBe(422);
    expect(answer.body.error.details.fields).toEqual(
      [1, 2, 3].map((at) => ({ path: `webhook_ids.${at}`, message: 'is not a webhook of this environment' })),
    );
    for (const body of [{ webhook_ids: [] }, { webhook_ids: webhook.id }, { webhooks: [] }, { webhook_ids: [1] }]) {
      expect((await replay(id, body)).status).toBe(422);
    }
    expect(await deliveriesOf(id)).toHaveLength(1);
  });

  test('refuses a test', async () => {
    const { body } = await program.post(`/webhooks/${webhook.id}/test`);
    const answer = await replay(body.event_id);
    expect([answer.status, answer.body.error.code]).toEqual([409, 'test_event']);
  });

  test('finds neither another tenant’s nor another environment’s event, and is for developers', async () => {
    const id = await delivered();
    const stranger = await program.addTenant('replay-event-neighbour');
    const never = await replay(formatId('event', '019b0000-0000-7000-8000-000000000000'));
    for (const answer of [
      await replay(id, {}, stranger),
      await replay(id, {}, { 'x-environment': 'staging' }),
      await replay('evt_nonsense'),
      await replay('%00'),
    ]) {
      expect(answer.status).toBe(404);
      expect({ ...answer.body.error, request_id: '' }).toEqual({ ...never.body.error, request_id: '' });
    }
    for (const role of ['viewer', 'publisher']) {
      const headers = await program.keyOf(role);
      expect((await replay(id, {}, headers)).status).toBe(403);
      expect((await erase(id, headers)).status).toBe(403);
    }
    for (const headers of [stranger, { 'x-environment': 'staging' }])
      expect((await erase(id, headers)).status).toBe(404);
    expect((await program.get(`/events/${id}`)).data).toEqual({ n: 1 });
    expect(await deliveriesOf(id)).toHaveLength(1);
    expect((await replay(id, {}, await program.keyOf('developer'))).status).toBe(202);
  });
});

describe('DELETE /events/{id}/payload', () => {
  test('erases data and metadata from event and attempts, and can be asked twice', async () => {
    const id = await delivered({ event_id: 'secret-1', data: { card: '4111' }, metadata: { who: 'Ada' } });
    for (const name of [id, 'secret-1']) expect((await erase(name)).status).toBe(204);
    const event = await program.get(`/events/${id}`);
    expect(event).toMatchObject({ event_type: 'order.paid', data: null, metadata: null });
    const [{ id: delivery }] = event.deliveries;
    expect((await program.get(`/deliveries/${delivery}`)).attempts).toMatchObject([
      { request_body: null, payload: null },
    ]);
    expect((await erase('evt_nonsense')).status).toBe(404);
  });

  test('what waits or is held is discarded at once, and what was sent stays as it is', async () => {
    const id = await delivered();
    const paused = await program.createWebhook();
    await program.post(`/webhooks/${paused.id}/pause`);
    await replay(id, { webhook_ids: [paused.id] });
    const later = await program.publish({ deliver_at: tomorrow() });
    for (const event of [id, later]) await erase(event);
    const statuses = async (event: string) =>
      (await deliveriesOf(event)).map((row: { status: string; status_reason: string }) => [
        row.status,
        row.status_reason,
      ]);
    expect(await statuses(id)).toEqual([
      ['discarded', 'payload_erased'],
      ['delivered', null],
    ]);
    expect(await statuses(later)).toEqual([
      ['discarded', 'payload_erased'],
      ['discarded', 'payload_erased'],
    ]);
    await program.post(`/webhooks/${paused.id}/resume`);
    await program.posthorn.call('DELETE', `/api/v1/webhooks/${paused.id}`);
    expect(program.receiver.requests).toHaveLength(1);
  });

  test('the event can no longer be replayed, nor a delivery of it tried again', async () => {
    program.receiver.onRequest = (request) => request.respond(500);
    const id = await program.publish();
    const dead = await program.deliveryIn('dead', id);
    await erase(id);
    const retry = await program.post(`/deliveries/${dead.id}/retry`);
    expect([retry.status, retry.body.error.code]).toEqual([409, 'payload_erased']);
    const answer = await replay(id);
    expect([answer.status, answer.body.error.code]).toEqual([409, 'payload_erased']);
    const body = { since: '2020-01-01T00:00:00Z', until: '2099-01-01T00:00:00Z', webhook_id: webhook.id };
    const job = await program.post('/replays', body);
    expect(await program.ended(job.body.id)).toMatchObject({ replayed: 0, skipped: 1 });
    expect(await deliveriesOf(id)).toHaveLength(1);
  });
});
