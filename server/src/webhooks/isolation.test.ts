import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Scope } from '../http/caller.ts';
import { formatId } from '../kernel/ids.ts';
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

describe('isolation and permissions', () => {
  const routes = [
    ['GET', '', undefined],
    ['PUT', '', { name: 'stolen' }],
    ['PATCH', '', { name: 'stolen' }],
    ['DELETE', '', undefined],
    ['POST', '/pause', undefined],
    ['POST', '/resume', undefined],
    ['POST', '/enable', undefined],
    ['GET', '/secret', undefined],
    ['POST', '/secret/rotate', {}],
  ] as const;

  it.each(routes)(
    '%s /{id}%s finds neither another tenant’s nor another environment’s webhook',
    async (method, path, body) => {
      const { secret, ...mine } = await create();
      const unknown = await api.call(scope, method, `/${formatId('webhook', api.newId())}${path}`, body);
      const garbage = await api.call(scope, method, `/whk_%00'${path}`, body);
      const otherTenant = await api.call(await api.addEnvironment(), method, `/${mine.id}${path}`, body);
      const sibling = await api.addEnvironment({ tenantId: scope.tenantId });
      const otherEnvironment = await api.call(sibling, method, `/${mine.id}${path}`, body);
      for (const answer of [unknown, garbage, otherTenant, otherEnvironment]) {
        expect(answer.status).toBe(404);
        expect({ ...answer.body.error, request_id: '' }).toEqual({ ...unknown.body.error, request_id: '' });
      }
      expect((await api.call(scope, 'GET', `/${mine.id}`)).body).toEqual(mine);
      expect((await api.call(scope, 'GET', `/${mine.id}/secret`)).body.secret).toBe(secret);
    },
  );

  it('lists only the webhooks of the caller’s environment', async () => {
    await create();
    expect((await api.call(await api.addEnvironment(), 'GET', '')).body.data).toEqual([]);
    const sibling = await api.addEnvironment({ tenantId: scope.tenantId });
    expect((await api.call(sibling, 'GET', '')).body.data).toEqual([]);
  });

  it('lets a viewer read but neither change anything nor see secrets, and a publisher nothing', async () => {
    const { id } = await create();
    for (const [method, path, body] of [
      ...routes.map(([m, p, b]) => [m, `/${id}${p}`, b] as const),
      ['POST', '', minimal] as const,
      ['GET', '', undefined] as const,
    ]) {
      const readable = method === 'GET' && !path.endsWith('/secret');
      expect((await api.call(scope, method, path, body, 'viewer')).status).toBe(readable ? 200 : 403);
      expect((await api.call(scope, method, path, body, 'publisher')).status).toBe(403);
    }
  });
});
