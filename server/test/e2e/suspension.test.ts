import { afterEach, beforeEach, expect, test } from 'vitest';
import { signToken } from '../../src/access/jwt/token-fixture.ts';
import { eventually } from '../../src/testing/eventually.ts';
import type { Answer } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster, type TestNode } from './cluster.ts';
import { type PlainAnswer, publishPlainly } from './plain-publish.ts';

let cluster: Cluster;
let receiver: Receiver;
let key: string;
beforeEach(async () => {
  [cluster, receiver] = await Promise.all([startCluster(2), startReceiver()]);
  const body = { name: 'acme', slug: 'acme', settings: { allow_unknown_event_types: true } };
  await cluster.first.call('POST', '/api/v1/tenants', body);
  key = (await asOperator('POST', '/api/v1/api-keys', { name: 'key', role: 'owner' })).body.key;
});
afterEach(async () => {
  await cluster.stop();
  await receiver.stop();
});

const EVENT = { event_type: 'order.paid', data: {} };

const asOperator = (method: string, path: string, body?: unknown, node = cluster.first) =>
  node.call(method, path, body, { 'x-tenant-id': 'acme' });
const asTenant = (method: string, path: string, body?: unknown, node = cluster.first, more = {}) =>
  node.call(method, path, body, { authorization: `Bearer ${key}`, ...more });
const statuses = async (): Promise<string[]> => {
  const { body } = await asOperator('GET', '/api/v1/deliveries?limit=250');
  return body.data.map(({ status }: { status: string }) => status);
};

async function suspendAndMeasure(): Promise<number> {
  const startMs = performance.now();
  const { status } = await cluster.first.call('POST', '/api/v1/tenants/acme/suspend', { reason: 'unpaid' });
  expect(status).toBe(200);
  const other = cluster.nodes[1] as TestNode;
  await eventually(
    () => asTenant('POST', '/api/v1/events', EVENT, other),
    (answer) => answer.status === 403,
  );
  return performance.now() - startMs;
}

test('within a second no node takes anything of a suspended tenant, by any way, and the operator sees its data', async () => {
  const { body: hook } = await asTenant('POST', '/api/v1/webhooks', { name: 'H', url: receiver.url, events: ['*'] });
  for (const node of cluster.nodes) expect((await asTenant('POST', '/api/v1/events', EVENT, node)).status).toBe(202);
  const portal = (await asTenant('POST', '/api/v1/portal-tokens', { access: 'manage', owner: 'O' })).body.token;
  const byPortal = (method: string, path: string, body: unknown, node: TestNode) =>
    asTenant(method, path, body, node, { authorization: `Bearer ${portal}` });
  for (const node of cluster.nodes)
    expect((await byPortal('GET', '/api/v1/webhooks', undefined, node)).status).toBe(200);
  const secret = 'a secret that the issuer and we share';
  const names = { issuer: 'https://login.example', audience: 'posthorn' };
  await cluster.first.call('POST', '/api/v1/jwt-issuers', { name: 'Login', secret, ...names });
  const exp = Math.floor(Date.now() / 1000) + 600;
  const jwt = signToken(
    { iss: names.issuer, aud: names.audience, exp, sub: 'u', tenant: 'acme', role: 'owner' },
    secret,
  );
  const byJwt = (method: string, path: string, node: TestNode) =>
    asTenant(method, path, undefined, node, { authorization: `Bearer ${jwt}` });
  for (const node of cluster.nodes) {
    await eventually(
      () => byJwt('GET', '/api/v1/webhooks', node),
      ({ status }) => status === 200,
    );
  }
  expect(await suspendAndMeasure()).toBeLessThan(1_000);
  const refused: (Answer | PlainAnswer)[] = [];
  for (const node of cluster.nodes) {
    refused.push(
      await publishPlainly(node.url, key, EVENT),
      await publishPlainly(node.url, jwt, EVENT),
      await byJwt('GET', '/api/v1/webhooks', node),
      await asTenant('POST', '/api/v1/events', EVENT, node, { origin: 'http://example.com' }),
      await asTenant('POST', '/api/v1/events/batch', { events: [EVENT] }, node),
      await asTenant('GET', '/api/v1/webhooks', undefined, node),
      await byPortal('GET', '/api/v1/webhooks', undefined, node),
      await byPortal('POST', '/api/v1/webhooks', { name: 'P', url: receiver.url, events: ['*'] }, node),
      // Nothing leaves for a suspended tenant, whoever asks.
      await asOperator('POST', '/api/v1/events', EVENT, node),
      await asOperator('POST', `/api/v1/webhooks/${hook.id}/test`, {}, node),
    );
  }
  expect(refused.map(({ status, body }) => [status, body.error.code])).toEqual(
    refused.map(() => [403, 'tenant_suspended']),
  );
  expect(JSON.stringify(refused.map(({ body }) => body))).not.toContain('unpaid');
  expect((await asOperator('GET', '/api/v1/events')).body.data).toHaveLength(2);
  expect((await asOperator('GET', `/api/v1/webhooks/${hook.id}`)).body.status).toBe('active');
  expect((await cluster.first.call('GET', '/api/v1/tenants/acme')).body).toMatchObject({
    suspended_at: expect.stringMatching(/^\d{4}-/),
    suspended_reason: 'unpaid',
  });
  // Another tenant goes on.
  expect((await cluster.first.call('POST', '/api/v1/events', EVENT)).status).toBe(202);
  await cluster.first.call('POST', '/api/v1/tenants/acme/resume');
  for (const node of cluster.nodes) {
    const answer = await eventually(
      () => asTenant('POST', '/api/v1/events', EVENT, node),
      ({ status }) => status === 202,
      1_000,
    );
    expect(answer.body.deliveries).toBe(1);
  }
});

test('what waits is held, what is under way ends, nothing is used up, and all of it goes on when the tenant is resumed', async () => {
  const answered: (() => void)[] = [];
  let underWay = 0;
  let most = 0;
  let waiting = true;
  receiver.onRequest = (request) => {
    underWay += 1;
    most = Math.max(most, underWay);
    const answer = () => {
      underWay -= 1;
      request.respond(200);
    };
    if (waiting) answered.push(answer);
    else setTimeout(answer, 2);
  };
  for (const events of [['a.*'], ['b.*'], ['c.*']]) {
    // One at a time and in order: most of them wait in memory or in their rows.
    const more = events[0] === 'b.*' ? { ordering: { enabled: true } } : { max_concurrency: 2 };
    await asTenant('POST', '/api/v1/webhooks', { name: 'H', url: receiver.url, events, ...more });
  }
  const batch = (type: string, fields = {}) =>
    asTenant('POST', '/api/v1/events/batch', {
      events: Array.from({ length: 50 }, (_, n) => ({ event_type: type, data: { n }, ordering_key: 'k', ...fields })),
    });
  await batch('a.x');
  await batch('b.x');
  await receiver.received(3);
  await suspendAndMeasure();
  const begun = answered.length;
  waiting = false;
  for (const answer of answered.splice(0)) answer();
  // Held, or parked behind what is.
  const waitsForNoTime = "due_at = 'infinity' OR (due_at IS NULL AND completed_at IS NOT NULL)";
  await eventually(
    () => cluster.query(`SELECT count(*)::int AS count FROM deliveries WHERE NOT coalesce(${waitsForNoTime}, false)`),
    ([row]) => row.count === 0,
  );
  const held = await statuses();
  expect(held.filter((each) => each === 'delivered')).toHaveLength(begun);
  // The sweep for rows that wait for nothing leaves them alone.
  for (const node of cluster.nodes) {
    await node.restart();
    expect(await statuses()).toEqual(held);
    expect(held).toContain('held');
  }
  expect(receiver.requests).toHaveLength(begun);
  const attempts = await cluster.query("SELECT max(attempt_count) AS most FROM deliveries WHERE status <> 'delivered'");
  expect(attempts).toEqual([{ most: 0 }]);

  most = 0;
  await cluster.first.call('POST', '/api/v1/tenants/acme/resume');
  await eventually(statuses, (found) => found.every((each) => each === 'delivered'), 20_000);
  expect(receiver.requests).toHaveLength(100);
  expect(new Set(receiver.requests.map(({ headers }) => headers['webhook-id'])).size).toBe(100);
  const ordered = receiver.requests
    .filter(({ headers }) => headers['x-webhook-event'] === 'b.x')
    .map(({ body }) => JSON.parse(body.toString()).data.n);
  expect(ordered).toEqual(Array.from({ length: 50 }, (_, n) => n));
});

test('a webhook that was paused stays so when its tenant is resumed', async () => {
  const hook = { name: 'H', url: receiver.url, events: ['*'] };
  const { body } = await asTenant('POST', '/api/v1/webhooks', hook);
  await asTenant('POST', `/api/v1/webhooks/${body.id}/pause`);
  await asTenant('POST', '/api/v1/events', EVENT);
  await suspendAndMeasure();
  await cluster.first.call('POST', '/api/v1/tenants/acme/resume');
  await asTenant('POST', '/api/v1/webhooks', { ...hook, url: `${receiver.url}/other` });
  await eventually(
    () => asTenant('POST', '/api/v1/events', EVENT),
    ({ status }) => status === 202,
  );
  await receiver.received(1);
  await eventually(statuses, (found) => found.sort().join() === 'delivered,held,held');
});
