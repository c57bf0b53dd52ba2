import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensurePartitions } from '../db/partitions.ts';
import type { Scope } from '../http/caller.ts';
import { parseId } from '../kernel/ids.ts';
import { disableWebhook } from './status-commands.ts';
import { openWebhookFixture, type WebhookFixture } from './webhook-fixture.ts';

let api: WebhookFixture;
let scope: Scope;

beforeAll(async () => {
  api = await openWebhookFixture();
  scope = await api.addEnvironment();
  await ensurePartitions(api.handle.pool, api.clock.now());
});
afterAll(() => api.close());

async function create(fields: Record<string, unknown> = {}): Promise<{ id: string; uuid: string }> {
  const { body } = await api.call(scope, 'POST', '', {
    name: 'W',
    url: 'https://e.example/',
    events: ['*'],
    ...fields,
  });
  return { id: body.id, uuid: parseId('webhook', body.id) ?? '' };
}

/** One delivery in each of the states in which one can be. */
async function addDeliveries(webhookId: string, where = scope): Promise<void> {
  for (const [status, dueAt, attempts, lease] of [
    ['held', 'infinity', 0, null],
    ['held', 'infinity', 3, null],
    ['failed', '2030-02-01', 2, null],
    ['pending', null, 0, 5],
    ['delivered', null, 1, null],
    ['dead', null, 8, null],
  ] as const) {
    await api.handle.pool.query(
      `INSERT INTO deliveries (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority,
         attempt_count, due_at, lease_node) VALUES ($1, $2, $3, $4, $5, 'a.b', $6, 'scheduled', 0, $7, $8, $9)`,
      [where.tenantId, where.environmentId, api.newId(), api.newId(), webhookId, status, attempts, dueAt, lease],
    );
  }
}

async function deliveries(webhookId: string): Promise<string[]> {
  const { rows } = await api.handle.pool.query(
    `SELECT concat_ws(' ', status, status_reason, attempt_count, 'due ' || due_at::text, 'done ' || completed_at::text) AS line
     FROM deliveries WHERE webhook_id = $1 ORDER BY id`,
    [webhookId],
  );
  return rows.map((row) => row.line.replaceAll(/2030-01-15 \S+/g, 'now').replaceAll(/2030-02-01 \S+/g, 'later'));
}

const untouched = [
  'held 0 due infinity',
  'held 3 due infinity',
  'failed 2 due later',
  'pending 0',
  'delivered 1',
  'dead 8',
];

describe('the status of a webhook', () => {
  it('follows is_active, status, pause, resume and enable', async () => {
    const { id } = await create();
    const state = ({ body }: { body: Record<string, unknown> }) => [body.status, body.is_active, body.status_reason];
    const steps = [
      [() => api.call(scope, 'POST', `/${id}/pause`), ['paused', false, 'manual']],
      [() => api.call(scope, 'POST', `/${id}/resume`), ['active', true, null]],
      [() => api.call(scope, 'PATCH', `/${id}`, { is_active: false }), ['disabled', false, 'manual']],
      [() => api.call(scope, 'POST', `/${id}/enable`), ['active', true, null]],
      [() => api.call(scope, 'PUT', `/${id}`, { status: 'paused' }), ['paused', false, 'manual']],
      [() => api.call(scope, 'PUT', `/${id}`, { is_active: false, status: 'paused' }), ['paused', false, 'manual']],
      [() => api.call(scope, 'PUT', `/${id}`, { name: 'still paused' }), ['paused', false, 'manual']],
      [() => api.call(scope, 'PATCH', `/${id}`, { is_active: true }), ['active', true, null]],
      [() => api.call(scope, 'POST', `/${id}/enable`), ['active', true, null]],
    ] as const;
    for (const [step, expected] of steps) expect(state(await step())).toEqual(expected);
  });

  it('keeps the engine’s reason until a person changes the status, and a person’s choice against the engine', async () => {
    const { id, uuid } = await create();
    const store = { ...api, db: api.handle.db };
    await disableWebhook(store, scope, uuid, 'gone');
    expect((await api.directory.find(scope, uuid))?.status).toBe('disabled');
    const change = await api.call(scope, 'PATCH', `/${id}`, { is_active: false, name: 'x' });
    expect(change.body).toMatchObject({ status: 'disabled', status_reason: 'gone' });
    const enabled = await api.call(scope, 'POST', `/${id}/enable`);
    expect(enabled.body).toMatchObject({ status: 'active', status_reason: null });

    await api.call(scope, 'POST', `/${id}/pause`);
    await disableWebhook(store, scope, uuid, 'gone');
    expect((await api.call(scope, 'GET', `/${id}`)).body).toMatchObject({ status: 'paused', status_reason: 'manual' });
    await api.call(scope, 'POST', `/${id}/resume`);
    await disableWebhook(store, await api.addEnvironment(), uuid, 'gone');
    expect((await api.call(scope, 'GET', `/${id}`)).body).toMatchObject({ status: 'active' });
    await disableWebhook(store, scope, api.newId(), 'gone');
  });

  it.each([
    ['resume', (id: string) => api.call(scope, 'POST', `/${id}/resume`)],
    ['enable', (id: string) => api.call(scope, 'POST', `/${id}/enable`)],
    ['is_active', (id: string) => api.call(scope, 'PATCH', `/${id}`, { is_active: true })],
    ['status', (id: string) => api.call(scope, 'PUT', `/${id}`, { status: 'active' })],
  ])('makes held deliveries due when it becomes active by %s, and touches no others', async (_way, activate) => {
    const { id, uuid } = await create({ status: 'paused' });
    const neighbour = await create({ status: 'paused' });
    const stranger = await api.addEnvironment();
    await addDeliveries(uuid);
    await addDeliveries(neighbour.uuid);
    await addDeliveries(uuid, stranger);
    const { status } = await activate(id);
    expect(status).toBe(200);
    const released = ['pending 0 due now', 'failed 3 due now', ...untouched.slice(2)];
    expect(await deliveries(uuid)).toEqual([...released, ...untouched]);
    expect(await deliveries(neighbour.uuid)).toEqual(untouched);
  });

  it('leaves deliveries alone when the webhook was active already', async () => {
    const { id, uuid } = await create();
    await addDeliveries(uuid);
    await api.call(scope, 'POST', `/${id}/enable`);
    await api.call(scope, 'PATCH', `/${id}`, { is_active: true });
    expect(await deliveries(uuid)).toEqual(untouched);
  });
});

describe('deleting a webhook', () => {
  it('ends what waits for it as discarded, and takes its secrets and totals along', async () => {
    const { id, uuid } = await create();
    const neighbour = await create();
    await addDeliveries(uuid);
    await addDeliveries(neighbour.uuid);
    await api.handle.pool.query(
      'INSERT INTO webhook_totals (tenant_id, webhook_id, last_triggered_at) SELECT $1, unnest($2::uuid[]), now()',
      [scope.tenantId, [uuid, neighbour.uuid]],
    );
    const answer = await api.call(scope, 'DELETE', `/${id}`);
    expect(answer).toEqual({ status: 204, body: undefined });
    expect(await deliveries(uuid)).toEqual([
      'discarded webhook_deleted 0 done now',
      'discarded webhook_deleted 3 done now',
      'discarded webhook_deleted 2 done now',
      ...untouched.slice(3),
    ]);
    expect(await deliveries(neighbour.uuid)).toEqual(untouched);
    for (const table of ['webhook_secrets', 'webhook_totals']) {
      const { rows } = await api.handle.pool.query(
        `SELECT DISTINCT webhook_id FROM ${table} WHERE webhook_id = ANY($1)`,
        [[uuid, neighbour.uuid]],
      );
      expect(rows).toEqual([{ webhook_id: neighbour.uuid }]);
    }
    expect((await api.call(scope, 'GET', `/${id}`)).status).toBe(404);
    expect((await api.call(scope, 'DELETE', `/${id}`)).status).toBe(404);
  });
});

describe('a change', () => {
  it('tells every node when it commits, and nothing when it is undone', async () => {
    const notices: unknown[] = [];
    const listener = new pg.Client(api.connection);
    await listener.connect();
    listener.on('notification', ({ payload }) => notices.push(JSON.parse(payload ?? '')));
    await listener.query('LISTEN posthorn_changes');
    const { id, uuid } = await create();
    await api.call(scope, 'PATCH', `/${id}`, { name: 'x' });
    await api.call(scope, 'PATCH', `/${id}`, { headers: { Host: 'refused in the transaction' } });
    await api.call(scope, 'POST', `/${id}/pause`);
    await api.call(scope, 'POST', `/${id}/secret/rotate`);
    await api.call(scope, 'DELETE', `/${id}`);
    await api.call(scope, 'DELETE', `/${id}`);
    // Notices arrive in the order of the commits, so whatever belongs to the changes is there when this one is.
    await api.handle.pool.query(`SELECT pg_notify('posthorn_changes', '"end"')`);
    while (notices.at(-1) !== 'end') await listener.query('SELECT');
    await listener.end();
    const changed = { topic: 'webhooks', ...scope };
    const circuitGone = { topic: 'circuits', ...scope, webhookId: uuid };
    expect(notices).toEqual([changed, changed, changed, changed, circuitGone, changed, 'end']);
  });
});
