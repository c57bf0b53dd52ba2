import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Scope } from '../http/caller.ts';
import { parseId } from '../kernel/ids.ts';
import type { Resolve } from './egress/guard.ts';
import { openWebhookFixture, type WebhookFixture } from './webhook-fixture.ts';

/** What each name leads to; a name that is not here does not exist. */
const addresses: Record<string, string[]> = {
  'good.example.com': ['8.8.8.8', '2606:4700::1'],
  'bad.example.com': ['10.1.2.3'],
  'mixed.example.com': ['8.8.8.8', '8.8.4.4', '169.254.169.254', '2606:4700::1'],
  'office.example.com': ['203.0.114.7', '203.0.114.8'],
};

const resolve: Resolve = (host, _options, callback) => {
  const found = addresses[host];
  if (found === undefined) callback(Object.assign(new Error(), { code: 'ENOTFOUND' }), []);
  else
    callback(
      null,
      found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
};

let api: WebhookFixture;
let scope: Scope;

beforeAll(async () => {
  api = await openWebhookFixture(resolve);
  scope = await api.addEnvironment();
});
afterAll(() => api.close());

const create = (fields: Record<string, unknown>) =>
  api.call(scope, 'POST', '', { name: 'CRM', url: 'https://good.example.com/', events: ['*'], ...fields });

const change = (id: string, fields: Record<string, unknown>) => api.call(scope, 'PATCH', `/${id}`, fields);

/** A 422 for this field alone. */
const refused = (path: string, message: RegExp) => ({
  status: 422,
  body: {
    error: expect.objectContaining({ details: { fields: [{ path, message: expect.stringMatching(message) }] } }),
  },
});

describe('a name in a URL', () => {
  it.each([['bad'], ['mixed']])('is refused when it is written, if one of its addresses is bad: %s', async (name) => {
    const url = `https://${name}.example.com/hook`;
    const reason = /^The destination is not a public address/;
    expect(await create({ url })).toEqual(refused('url', reason));
    expect(await create({ failover_url: url })).toEqual(refused('failover_url', reason));
    const { id } = (await create({})).body;
    expect(await change(id, { url })).toEqual(refused('url', reason));
    expect(await change(id, { failover_url: url })).toEqual(refused('failover_url', reason));
    const text = JSON.stringify(await create({ url }));
    for (const address of addresses[`${name}.example.com`] ?? []) expect(text).not.toContain(address);
  });

  it('is accepted with good addresses, and when it does not exist: every connect judges it again', async () => {
    const { status, body } = await create({ failover_url: 'https://later.example.com/' });
    expect(status).toBe(201);
    expect((await change(body.id, { url: 'https://other.example.com/' })).status).toBe(200);
  });

  it('is not judged again by a change of something else', async () => {
    const { id } = (await create({})).body;
    // As if its name had moved since it was written.
    await api.handle.db
      .updateTable('webhooks')
      .set({ url: 'https://bad.example.com/' })
      .where('tenant_id', '=', scope.tenantId)
      .where('id', '=', parseId('webhook', id) ?? '')
      .execute();
    expect((await change(id, { name: 'ERP' })).body).toMatchObject({ name: 'ERP', url: 'https://bad.example.com/' });
  });
});

describe('a name outside the ip_whitelist', () => {
  const outside = (field: string) => refused('ip_whitelist', new RegExp(`^does not hold all .* name in ${field}$`));
  const url = 'https://office.example.com/';

  it('is refused when the webhook is made, also for one address of several', async () => {
    expect(await create({ url, ip_whitelist: ['198.51.99.0/24'] })).toEqual(outside('url'));
    expect(await create({ url, ip_whitelist: ['203.0.114.7'] })).toEqual(outside('url'));
    expect(await create({ failover_url: url, ip_whitelist: ['8.8.8.8', '2606:4700::/32'] })).toEqual(
      outside('failover_url'),
    );
    expect((await create({ url, ip_whitelist: ['203.0.114.0/24'] })).status).toBe(201);
    expect((await create({ url, ip_whitelist: [] })).status).toBe(201);
  });

  it('is refused in a change of the URL as well as of the list', async () => {
    const { id } = (await create({ ip_whitelist: ['8.8.8.8', '2606:4700::/32'] })).body;
    expect(await change(id, { url })).toEqual(outside('url'));
    expect(await change(id, { failover_url: url })).toEqual(outside('failover_url'));
    expect(await change(id, { ip_whitelist: ['203.0.114.0/24'] })).toEqual(outside('url'));
    expect((await change(id, { url, ip_whitelist: ['203.0.114.0/24'] })).status).toBe(200);
    expect((await change(id, { url: 'https://good.example.com/', ip_whitelist: null })).status).toBe(200);
    expect((await change(id, { failover_url: url })).status).toBe(200);
    expect(await change(id, { ip_whitelist: ['8.8.8.8', '2606:4700::/32'] })).toEqual(outside('failover_url'));
  });

  it('is told of an entry that is no range before it is compared with the list', async () => {
    const answer = await create({ url, ip_whitelist: ['198.51.99.0/24', 'office'] });
    expect(answer).toEqual(refused('ip_whitelist.1', /^must be an IPv4/));
  });
});
