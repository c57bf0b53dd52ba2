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

  it('shows the totals, and what was counted since they were last added up', async () => {
    const { id } = await create();
    const other = await create();
    await api.handle.pool.query(
      `WITH totals AS (
         INSERT INTO webhook_totals (tenant_id, webhook_id, delivered, dead, last_triggered_at)
         VALUES ($1, $2, 5, 1, '2030-01-01T00:00:00Z')
       )
       INSERT INTO webhook_tallies (tallies)
       SELECT ARRAY[(tenant, $2, 3, 1, 4, 0, '2030-01-02T00:00:00Z', NULL, NULL, NULL)::webhook_tally,
                    (tenant, $3, 9, 9, 9, 0, '2030-01-03T00:00:00Z', NULL, NULL, NULL)::webhook_tally]
       FROM (VALUES ($1::uuid), ($1::uuid), ($4::uuid)) AS of (tenant)`,
      [scope.tenantId, parseId('webhook', id), parseId('webhook', other.id), crypto.randomUUID()],
    );
    expect((await api.call(scope, 'GET', `/${id}`)).body).toMatchObject({
      total_deliveries: 14,
      successful_deliveries: 11,
      failed_deliveries: 3,
      last_triggered_at: '2030-01-02T00:00:00.000Z',
    });
    expect((await api.call(scope, 'GET', '?limit=2')).body.data).toMatchObject([
      { id: other.id, total_deliveries: 36 },
      { id, total_deliveries: 14 },
    ]);
  });
});
