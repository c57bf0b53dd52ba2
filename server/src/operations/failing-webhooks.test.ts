import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Scope } from '../http/caller.ts';
import { formatId, parseId } from '../kernel/ids.ts';
import { disableWebhook } from '../webhooks/status-commands.ts';
import { openWebhookFixture, type WebhookFixture } from '../webhooks/webhook-fixture.ts';
import { disableFailingWebhooks } from './failing-webhooks.ts';

const DAY_MS = 86_400_000;

let api: WebhookFixture;
let scope: Scope;

beforeAll(async () => {
  api = await openWebhookFixture();
});
afterAll(() => api.close());
beforeEach(async () => {
  await api.handle.pool.query('TRUNCATE webhooks, webhook_totals CASCADE');
  scope = await api.addEnvironment();
});

async function create(fields: Record<string, unknown> = {}, where = scope): Promise<string> {
  const url = 'https://e.example/hook';
  const { body } = await api.call(where, 'POST', '', { name: 'W', url, events: ['*'], owner: 'ann', ...fields });
  return parseId('webhook', body.id) ?? '';
}

const daysAgo = (days: number) => new Date(api.clock.now() - days * DAY_MS);

/** Failures from `since` days ago until one hour ago, the last success `success` days ago. */
async function see(id: string, seen: { since?: number; days?: number; success?: number }, where = scope) {
  const { since, days = 5, success } = seen;
  await api.handle.pool.query(
    `INSERT INTO webhook_totals (tenant_id, webhook_id, last_triggered_at, last_success_at, failing_since,
       failing_days, last_failure_at) VALUES ($1, $2, now(), $3, $4, $5, $6)
     ON CONFLICT (tenant_id, webhook_id) DO UPDATE SET last_success_at = excluded.last_success_at,
       failing_since = excluded.failing_since, failing_days = excluded.failing_days,
       last_failure_at = excluded.last_failure_at`,
    [
      where.tenantId,
      id,
      success === undefined ? null : daysAgo(success),
      since === undefined ? null : daysAgo(since),
      since === undefined ? 0 : days,
      since === undefined ? null : daysAgo(1 / 24),
    ],
  );
}

/** Runs the task as that many nodes at once; gives what is announced of it. */
async function run(nodes = 1) {
  await api.handle.pool.query('TRUNCATE announcements');
  const store = { ...api, db: api.handle.db };
  await Promise.all(Array.from({ length: nodes }, () => disableFailingWebhooks(store, api.clock.now())));
  const announced = await api.handle.pool.query('SELECT * FROM announcements ORDER BY webhook_id');
  return announced.rows;
}

const shownOf = async (id: string) => (await api.call(scope, 'GET', `/${formatId('webhook', id)}`)).body;

describe('disabling webhooks that have failed for days', () => {
  it('disables each once, whichever of several nodes does it, and announces it once', async () => {
    const failing = await create({ name: 'Dead' });
    const stranger = await api.addEnvironment();
    const foreign = await create({}, stranger);
    await see(failing, { since: 6 });
    await see(foreign, { since: 8 }, stranger);
    const told = await run(4);
    expect(told).toEqual([
      expect.objectContaining({
        ...{ tenant_id: scope.tenantId, environment_id: scope.environmentId, type: 'webhook.disabled' },
        ...{ webhook_id: failing, webhook_name: 'Dead', webhook_url: 'https://e.example/hook', webhook_owner: 'ann' },
        occurred_at: new Date(api.clock.now()),
        details: { reason: 'failing', failing_since: daysAgo(6).toISOString() },
      }),
      expect.objectContaining({
        ...{ tenant_id: stranger.tenantId, environment_id: stranger.environmentId, webhook_id: foreign },
        details: { reason: 'failing', failing_since: daysAgo(8).toISOString() },
      }),
    ]);
    expect(await shownOf(failing)).toMatchObject({ status: 'disabled', status_reason: 'failing', is_active: false });
    expect(await run()).toEqual([]);
  });

  it('leaves alone what works, has not failed for long enough, or was paused by a person', async () => {
    const works = await create();
    const young = await create();
    const recovered = await create();
    const paused = await create({ status: 'paused' });
    await see(works, { success: 0.1 });
    await see(young, { since: 4.9 });
    await see(recovered, { since: 2, success: 2.1 });
    await see(paused, { since: 9 });
    await create();
    expect(await run()).toEqual([]);
    for (const id of [works, young, recovered]) expect((await shownOf(id)).status).toBe('active');
    expect(await shownOf(paused)).toMatchObject({ status: 'paused', status_reason: 'manual' });
  });

  it('begins to count anew when a person enables the webhook, resumes it or leads it elsewhere', async () => {
    const id = await create();
    const path = `/${formatId('webhook', id)}`;
    await see(id, { since: 6 });
    expect(await run()).toHaveLength(1);
    await api.call(scope, 'POST', `${path}/enable`);
    expect(await run()).toEqual([]);

    for (const [before, change] of [
      [() => api.call(scope, 'POST', `${path}/pause`), () => api.call(scope, 'POST', `${path}/resume`)],
      [() => api.call(scope, 'POST', `${path}/pause`), () => api.call(scope, 'PATCH', path, { is_active: true })],
      [() => undefined, () => api.call(scope, 'PATCH', path, { url: 'https://mended.example/' })],
    ] as const) {
      await see(id, { since: 6 });
      await before();
      await change();
      expect(await run()).toEqual([]);
    }
    await see(id, { since: 6 });
    await api.call(scope, 'PATCH', path, { name: 'another name', url: 'https://mended.example/', is_active: true });
    expect(await run()).toHaveLength(1);
  });

  it('decides again under the lock: a webhook that was enabled meanwhile stays active', async () => {
    const id = await create();
    await see(id, { since: 6 });
    await api.call(scope, 'POST', `/${formatId('webhook', id)}/pause`);
    await api.call(scope, 'POST', `/${formatId('webhook', id)}/enable`);
    const store = { ...api, db: api.handle.db };
    expect(await disableWebhook(store, scope, id, 'failing')).toBe(false);
    expect(await shownOf(id)).toMatchObject({ status: 'active' });
  });

  it('finds them among more webhooks than are looked at in one statement', async () => {
    const { tenantId, environmentId } = scope;
    await api.handle.pool.query(
      `INSERT INTO webhooks (tenant_id, id, environment_id, name, url, events, status, http_method, created_at, updated_at)
       SELECT $1, gen_random_uuid(), $2, 'n', 'https://e.example', '{*}', 'active', 'POST', now(), now()
       FROM generate_series(1, 10500)`,
      [tenantId, environmentId],
    );
    await api.handle.pool.query(
      `INSERT INTO webhook_totals (tenant_id, webhook_id, last_triggered_at, failing_since, failing_days, last_failure_at)
       SELECT tenant_id, id, now(), $1, 4, $2
       FROM (SELECT *, row_number() OVER (ORDER BY tenant_id, id) AS place FROM webhooks) AS placed
       WHERE place IN (1, 2, 4999, 5000, 5001, 9999, 10000, 10001, 10500)`,
      [daysAgo(6), daysAgo(0.5)],
    );
    expect(await run()).toHaveLength(9);
  });
});
