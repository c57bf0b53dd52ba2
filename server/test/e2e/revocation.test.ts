import { once } from 'node:events';
import http from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { keySet, makeKey, signToken } from '../../src/access/jwt/token-fixture.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster, type TestNode } from './cluster.ts';

/**
 * What one node takes back the other one refuses within a second. Measured from the answer to the first refusal: 1 to
 * 25 ms.
 */
const WITHIN_MS = 1_000;

const SECRET = 'a secret that the issuer and we share';

let cluster: Cluster;
let other: TestNode;
let receiver: Receiver;
beforeAll(async () => {
  [cluster, receiver] = await Promise.all([startCluster(2), startReceiver()]);
  other = cluster.nodes[1] as TestNode;
});
afterAll(() => Promise.all([cluster.stop(), receiver.stop()]));

/** As the operator, through the first node. */
async function ask(method: string, path: string, body?: unknown, headers?: Record<string, string>) {
  const answer = await cluster.first.call(method, path, body, headers);
  expect(answer.status, `${method} ${path}: ${answer.text}`).toBeLessThan(300);
  return answer.body;
}

const makeApiKey = (fields: object = {}) =>
  ask('POST', '/api/v1/api-keys', { name: 'Key', role: 'developer', ...fields });
const statusOn = async (node: TestNode, key: string, path = '/api/v1/webhooks') =>
  (await node.call('GET', path, undefined, { authorization: `Bearer ${key}` })).status;

/** Asks the other node until it answers so, and returns how long that took. */
async function untilAnswered(status: number, key: string, path?: string): Promise<number> {
  const from = performance.now();
  for (;;) {
    const answered = await statusOn(other, key, path);
    const ms = performance.now() - from;
    if (answered === status) return ms;
    if (ms > 10 * WITHIN_MS) throw new Error(`The other node still answers ${answered}.`);
  }
}

let count = 0;
async function makeIssuer(fields: object = { secret: SECRET }) {
  count += 1;
  const issuer = `https://issuer-${count}.example`;
  const made = await ask('POST', '/api/v1/jwt-issuers', { name: 'Issuer', issuer, audience: 'posthorn', ...fields });
  return { id: made.id as string, issuer };
}

const claimsOf = (issuer: string, more: object = {}) => ({
  iss: issuer,
  aud: 'posthorn',
  sub: 'user',
  exp: Math.floor(Date.now() / 1000) + 600,
  tenant: 'default',
  role: 'developer',
  ...more,
});

describe('the other node', () => {
  test('refuses a revoked key', async () => {
    const { id, key } = await makeApiKey();
    expect(await statusOn(other, key)).toBe(200);
    await ask('DELETE', `/api/v1/api-keys/${id}`);
    expect(await untilAnswered(401, key)).toBeLessThan(WITHIN_MS);
  });

  test('refuses the old secret of a key that is rotated without a grace', async () => {
    const { id, key } = await makeApiKey();
    expect(await statusOn(other, key)).toBe(200);
    const rotated = await ask('POST', `/api/v1/api-keys/${id}/rotate`, { grace_period_seconds: 0 });
    expect(await untilAnswered(401, key)).toBeLessThan(WITHIN_MS);
    expect(await statusOn(other, rotated.key)).toBe(200);
  });

  test('refuses the old secret when its grace is over', async () => {
    const { id, key } = await makeApiKey();
    expect(await statusOn(other, key)).toBe(200);
    const rotated = await ask('POST', `/api/v1/api-keys/${id}/rotate`, { grace_period_seconds: 1 });
    const endMs = Date.parse(rotated.old_key_expires_at);
    await untilAnswered(401, key);
    const lateMs = Date.now() - endMs;
    expect(lateMs).toBeGreaterThanOrEqual(0);
    expect(lateMs).toBeLessThan(WITHIN_MS);
  });

  test('knows changed scopes and a changed end', async () => {
    const { id, key } = await makeApiKey();
    expect(await statusOn(other, key)).toBe(200);
    await ask('PATCH', `/api/v1/api-keys/${id}`, { scopes: ['publish'] });
    expect(await untilAnswered(403, key)).toBeLessThan(WITHIN_MS);
    const end = Date.now() + 2_000;
    await ask('PATCH', `/api/v1/api-keys/${id}`, { expires_at: new Date(end).toISOString() });
    await untilAnswered(401, key);
    expect(Date.now() - end).toBeLessThan(WITHIN_MS);
  });

  test('refuses the tokens of an issuer that is removed', async () => {
    const { id, issuer } = await makeIssuer();
    const token = signToken(claimsOf(issuer), SECRET);
    await untilAnswered(200, token);
    await ask('DELETE', `/api/v1/jwt-issuers/${id}`);
    expect(await untilAnswered(401, token)).toBeLessThan(WITHIN_MS);
  });

  test('refuses the tokens of an issuer with another audience, and of a tenant that is deleted', async () => {
    const { slug } = await ask('POST', '/api/v1/tenants', { name: 'Short', slug: 'short-lived' });
    const { id, issuer } = await makeIssuer();
    const token = signToken(claimsOf(issuer), SECRET);
    const short = signToken(claimsOf(issuer, { tenant: slug }), SECRET);
    await untilAnswered(200, token);
    await untilAnswered(200, short);
    await ask('DELETE', `/api/v1/tenants/${slug}`);
    expect(await untilAnswered(401, short)).toBeLessThan(WITHIN_MS);
    expect(await statusOn(other, token)).toBe(200);
    await ask('PATCH', `/api/v1/jwt-issuers/${id}`, { audience: 'another' });
    expect(await untilAnswered(401, token)).toBeLessThan(WITHIN_MS);
  });

  test('that lost its connection for notices has forgotten everything once it is back', async () => {
    const { id, key } = await makeApiKey();
    const { id: issuerId, issuer } = await makeIssuer();
    const token = signToken(claimsOf(issuer), SECRET);
    expect(await statusOn(other, key)).toBe(200);
    await untilAnswered(200, token);
    // As if it was done while nobody listened: no node is told of what is done in the database itself.
    await cluster.query('DELETE FROM jwt_issuers WHERE issuer = $1', [issuer]);
    await cluster.query('UPDATE api_keys SET revoked_at = now() WHERE revoked_at IS NULL AND key_hint = $1', [
      key.slice(0, 12),
    ]);
    expect(await statusOn(other, key)).toBe(200);
    expect(await statusOn(other, token)).toBe(200);
    const cut = await cluster.query(
      `SELECT pg_terminate_backend(pid, 5000) AS cut FROM pg_stat_activity
       WHERE application_name = 'posthorn-listener' AND datname = current_database()`,
    );
    expect(cut).toEqual([{ cut: true }, { cut: true }]);
    expect(await untilAnswered(401, key)).toBeLessThan(5 * WITHIN_MS);
    expect(await untilAnswered(401, token)).toBeLessThan(WITHIN_MS);
    expect((await cluster.first.call('GET', `/api/v1/jwt-issuers/${issuerId}`)).status).toBe(404);
    expect((await ask('GET', `/api/v1/api-keys/${id}`)).revoked_at).not.toBeNull();
  });
});

describe('the keys of an issuer', () => {
  test('are fetched from its URL as deliveries are sent: without redirects, and not from inside', async () => {
    const key = makeKey('RS256', 'k1');
    receiver.onRequest = (request) => {
      if (request.path === '/moved') request.respond(302, { location: `${receiver.url}/jwks.json` });
      else request.respond(200, { 'content-type': 'application/json' }, keySet(key).toString());
    };
    const good = await makeIssuer({ jwks_url: `${receiver.url}/jwks.json` });
    const moved = await makeIssuer({ jwks_url: `${receiver.url}/moved` });
    const token = (issuer: string) => signToken(claimsOf(issuer), key);
    expect(await statusOn(cluster.first, token(good.issuer))).toBe(200);
    expect(await statusOn(cluster.first, token(moved.issuer))).toBe(503);
    expect(receiver.requests.map(({ method, path }) => `${method} ${path}`)).toEqual(['GET /jwks.json', 'GET /moved']);
    expect(receiver.requests[0]?.headers['user-agent']).toMatch(/^Posthorn\//);
    for (const jwks_url of ['http://169.254.169.254/jwks', 'http://10.0.0.1/jwks', 'file:///etc/passwd', 'x']) {
      const body = { name: 'x', issuer: 'x', audience: 'x', jwks_url };
      const { status, body: answer } = await cluster.first.call('POST', '/api/v1/jwt-issuers', body);
      expect([jwks_url, status, answer.error.details?.fields[0].path]).toEqual([jwks_url, 422, 'jwks_url']);
    }
  });

  test('are refused when there are too many bytes of them', async () => {
    const key = makeKey('RS256', 'k1');
    receiver.onRequest = (request) =>
      request.respond(200, {}, `{"pad":"${'x'.repeat(70_000)}",${keySet(key).toString().slice(1)}`);
    const { issuer } = await makeIssuer({ jwks_url: `${receiver.url}/long` });
    expect(await statusOn(cluster.first, signToken(claimsOf(issuer), key))).toBe(503);
  });
});

test('a token and a key with scopes publish the short way what they may, and not when their time is over', async () => {
  const { id, issuer } = await makeIssuer();
  const token = (role: string) => signToken(claimsOf(issuer, { role }), SECRET);
  const [publisher, viewer] = [token('publisher'), token('viewer')];
  const { key: reader } = await makeApiKey({ scopes: ['read'] });
  const { key: sender } = await makeApiKey({ scopes: ['publish'] });
  // What is in memory is answered the short way from the second request on.
  for (let times = 0; times < 3; times += 1) {
    const statuses = [];
    for (const key of [publisher, sender, viewer, reader]) statuses.push(await publishAfresh(key));
    expect(statuses).toEqual([202, 202, 403, 403]);
  }
  await ask('DELETE', `/api/v1/jwt-issuers/${id}`);
  const from = performance.now();
  while ((await publishAfresh(publisher)) === 202) expect(performance.now() - from).toBeLessThan(WITHIN_MS);
  expect(await publishAfresh(publisher)).toBe(401);
});

/** Publishes to the other node on a connection of its own: one that the HTTP server has taken stays with it. */
async function publishAfresh(key: string): Promise<number> {
  const agent = new http.Agent({ keepAlive: true });
  const body = '{"event_type":"order.paid","data":{}}';
  const headers = {
    authorization: `Bearer ${key}`,
    'content-type': 'application/json',
    'content-length': body.length,
  };
  const request = http.request(`${other.url}/api/v1/events`, { method: 'POST', agent, headers });
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  response.resume();
  await once(response, 'end');
  agent.destroy();
  return response.statusCode ?? 0;
}
