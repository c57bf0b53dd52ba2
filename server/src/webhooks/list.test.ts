import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Scope } from '../http/caller.ts';
import { parseId } from '../kernel/ids.ts';
import { openWebhookFixture, type WebhookFixture } from './webhook-fixture.ts';

let api: WebhookFixture;
let scope: Scope;

beforeAll(async () => {
  api = await openWebhookFixture();
  scope = await api.addEnvironment();
});
afterAll(() => api.close());

const minimal = { name: 'CRM', url: 'https://hooks.example.com/crm', events: ['lead.*'] };

async function create(fields: Record<string, unknown> = {}, where = scope) {
  const answer = await api.call(where, 'POST', '', { ...minimal, ...fields });
  expect(answer.body).toMatchObject({ id: expect.stringMatching(/^whk_/) });
  return answer.body;
}

describe('lists', () => {
  it('filters by event, status, owner and text, and pages from the newest to the oldest', async () => {
    const where = await api.addEnvironment();
    const names = [];
    for (const [name, fields] of [
      ['all', { events: ['*'] }],
      ['leads', { events: ['lead.*'], owner: 'ann' }],
      ['exact', { events: ['lead.created', 'call.ended'], description: '100%_sure\\' }],
      ['calls', { events: ['call.*'], status: 'paused' }],
      ['off', { events: ['lead.created'], is_active: false, owner: 'ann' }],
    ] as const) {
      names.unshift(name);
      await create({ name, ...fields }, where);
    }
    const list = async (query: string) => {
      const { status, body } = await api.call(where, 'GET', `?${query}`);
      expect(status).toBe(200);
      return body.data.map((webhook: { name: string }) => webhook.name);
    };
    expect(await list('')).toEqual(names);
    expect(await list('event=lead.created')).toEqual(['off', 'exact', 'leads', 'all']);
    expect(await list('event=lead.created&active_only=true')).toEqual(['exact', 'leads', 'all']);
    expect(await list('event=lead.*')).toEqual(['leads', 'all']);
    expect(await list('event=nobody.knows')).toEqual(['all']);
    expect(await list('status=paused')).toEqual(['calls']);
    expect(await list('owner=ann')).toEqual(['off', 'leads']);
    expect(await list('q=CALL')).toEqual(['calls']);
    expect(await list(`q=${encodeURIComponent('%_sure\\')}`)).toEqual(['exact']);
    expect(await list('q=%25%25')).toEqual([]);
    expect(await list("q=' OR 1=1 --")).toEqual([]);

    const pages: string[] = [];
    let cursor = '';
    do {
      const { body } = await api.call(where, 'GET', `?limit=2${cursor}`);
      pages.push(...body.data.map((webhook: { name: string }) => webhook.name));
      expect(body.has_more).toBe(body.next_cursor !== null);
      cursor = body.next_cursor === null ? '' : `&cursor=${body.next_cursor}`;
    } while (cursor !== '');
    expect(pages).toEqual(names);

    for (const bad of ['limit=0', 'limit=251', 'status=gone', 'active_only=perhaps', 'q=%00', 'event=a%00']) {
      expect((await api.call(where, 'GET', `?${bad}`)).status, bad).toBe(422);
    }
    expect((await api.call(where, 'GET', '?cursor=x')).status).toBe(400);
  });

  it('shows the totals of all shards', async () => {
    const { id } = await create();
    await api.handle.pool.query(
      `INSERT INTO webhook_totals (tenant_id, webhook_id, shard, delivered, dead, last_triggered_at)
       VALUES ($1, $2, 0, 5, 1, '2030-01-01T00:00:00Z'), ($1, $2, 1, 7, 2, '2030-01-02T00:00:00Z')`,
      [scope.tenantId, parseId('webhook', id)],
    );
    expect((await api.call(scope, 'GET', `/${id}`)).body).toMatchObject({
      total_deliveries: 15,
      successful_deliveries: 12,
      failed_deliveries: 3,
      last_triggered_at: '2030-01-02T00:00:00.000Z',
    });
    expect((await api.call(scope, 'GET', '?limit=1')).body.data[0].total_deliveries).toBe(15);
  });
});
