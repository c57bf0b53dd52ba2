import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeKey, signToken } from '../../src/access/jwt/token-fixture.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { publishPlainly } from './plain-publish.ts';

let posthorn: TestPosthorn;
let keys: string[];
beforeAll(async () => {
  // The test speaks through a proxy that is trusted, and so for many clients.
  posthorn = await startTestPosthorn({ authFailuresPerMinute: 20, trustedProxies: ['127.0.0.1', '::1'] });
  keys = [];
  for (let n = 0; n < 4; n++) {
    const { body } = await posthorn.call('POST', '/api/v1/api-keys', { name: `${n}`, role: 'publisher' });
    keys.push(body.key);
  }
});
afterAll(() => posthorn.stop());

const EVENT = { event_type: 'order.paid', data: {} };

/** `server`: past the direct way. */
function publish(from: string, key: string | undefined, server = false) {
  return publishPlainly(posthorn.url, key ?? '', EVENT, {
    headers: { 'x-forwarded-for': from, ...(server && { origin: 'http://example.com' }) },
  });
}

let guesses = 0;

/** A key as a guesser would make it up: well-formed, and nobody's. */
function guess(): string {
  guesses += 1;
  return `ph_prod_${String(guesses).padStart(43, '0')}`;
}

async function exhaust(from: string): Promise<void> {
  for (let n = 0; n < 20; n++) expect((await publish(from, guess(), n % 2 === 0)).status).toBe(401);
}

test('an address that failed too often gets 429 for all that is not known, and for nothing else', async () => {
  expect((await publish('198.51.100.1', keys[0])).status).toBe(202);
  await exhaust('198.51.100.1');
  const refused = await publish('198.51.100.1', guess());
  expect(refused.status).toBe(429);
  expect(refused.body.error.code).toBe('too_many_failed_attempts');
  const retryAfter = Number(refused.headers['retry-after']);
  expect(retryAfter).toBeGreaterThanOrEqual(1);
  expect(retryAfter).toBeLessThanOrEqual(3);
  for (const server of [false, true]) {
    // Nothing is looked up: a key that is good and was never used is refused as well, as is none, or a text that is no key.
    for (const key of [guess(), keys[1], undefined, 'x', 'a.b.c']) {
      expect((await publish('198.51.100.1', key, server)).status, `${key}`).toBe(429);
    }
    // Whoever is known from before passes, behind the same address, and the operator does.
    expect((await publish('198.51.100.1', keys[0], server)).status).toBe(202);
    expect((await publish('198.51.100.1', 'operator-key-of-the-tests', server)).status).toBe(202);
  }
  expect((await publish('198.51.100.2', keys[1])).status).toBe(202);
});

test('a known key passes also when memory has forgotten it, as after a change of its tenant', async () => {
  expect((await publish('198.51.100.3', keys[2])).status).toBe(202);
  await exhaust('198.51.100.3');
  await posthorn.call('PATCH', '/api/v1/tenants/default', { name: 'Renamed' });
  expect((await publish('198.51.100.3', keys[2])).status).toBe(202);
  expect((await publish('198.51.100.3', guess())).status).toBe(429);
});

test('a key that was revoked is known no longer', async () => {
  const { body } = await posthorn.call('POST', '/api/v1/api-keys', { name: 'short', role: 'publisher' });
  expect((await publish('198.51.100.4', body.key)).status).toBe(202);
  await exhaust('198.51.100.4');
  await posthorn.call('DELETE', `/api/v1/api-keys/${body.id}`);
  expect((await publish('198.51.100.4', body.key)).status).toBe(401);
  expect((await publish('198.51.100.4', body.key)).status).toBe(429);
});

test('a portal token that was signed here passes, also one that was never seen; all others are counted and refused like keys', async () => {
  const tokenFor = async (owner: string) =>
    (await posthorn.call('POST', '/api/v1/portal-tokens', { owner, access: 'read' })).body.token as string;
  const list = (token: string) =>
    posthorn.call('GET', '/api/v1/webhooks', undefined, {
      'x-forwarded-for': '198.51.100.7',
      authorization: `Bearer ${token}`,
    });
  const [known, unseen, revoked] = [await tokenFor('a'), await tokenFor('a'), await tokenFor('b')];
  for (const token of [known, revoked]) expect((await list(token)).status).toBe(200);
  const forged = `${known.slice(0, -43)}${'A'.repeat(43)}`;
  for (let n = 0; n < 20; n++) expect((await list(forged)).status).toBe(401);
  expect((await list(forged)).status).toBe(429);
  await posthorn.call('PATCH', '/api/v1/tenants/default', { name: 'Renamed again' });
  for (const token of [known, unseen]) expect((await list(token)).status).toBe(200);
  await posthorn.call('POST', '/api/v1/portal-tokens/revoke', { owner: 'b' });
  for (let n = 0; n < 2; n++) expect((await list(revoked)).status).toBe(401);
  expect((await list(`${revoked}A`)).status).toBe(429);
});

const SECRET = 'a secret that the issuer and we share';
const CLAIMS = { iss: 'https://login.example', aud: 'posthorn', tenant: 'default', role: 'publisher' };

function tokenOf(sub: string, claims: object = {}, secret = SECRET): string {
  return signToken({ ...CLAIMS, sub, exp: Math.floor(Date.now() / 1000) + 600, ...claims }, secret);
}

test('a JWT that was found valid before passes, all others are counted and refused like keys', async () => {
  const issuer = { name: 'Login', issuer: CLAIMS.iss, audience: CLAIMS.aud };
  const { body } = await posthorn.call('POST', '/api/v1/jwt-issuers', { ...issuer, secret: SECRET });
  const from = '198.51.100.9';
  const known = tokenOf('known');
  expect((await publish(from, known)).status).toBe(202);
  const forged = (n: number) => tokenOf(`guess ${n}`, {}, 'another secret, which is long enough too');
  for (let n = 0; n < 20; n++) expect((await publish(from, forged(n), n % 2 === 0)).status).toBe(401);
  for (const server of [false, true]) {
    for (const token of [forged(20), tokenOf('unseen'), guess()]) {
      expect((await publish(from, token, server)).status).toBe(429);
    }
    expect((await publish(from, known, server)).status).toBe(202);
    await posthorn.call('PATCH', '/api/v1/tenants/default', { name: `Renamed ${server}` });
    expect((await publish(from, known, server)).status).toBe(202);
  }
  expect((await publish('198.51.100.10', tokenOf('unseen'))).status).toBe(202);
  await posthorn.call('DELETE', `/api/v1/jwt-issuers/${body.id}`);
  expect((await publish(from, known)).status).toBe(401);
  expect((await publish(from, known)).status).toBe(429);
});

test('a JWT that cannot be judged, because its issuer’s keys cannot be fetched, counts as no failure', async () => {
  const keys = createServer((_request, response) => response.writeHead(500).end()).listen(0, '127.0.0.1');
  await once(keys, 'listening');
  const { port } = keys.address() as AddressInfo;
  const names = { issuer: 'https://away.example', audience: CLAIMS.aud };
  const issuer = { name: 'Away', ...names, jwks_url: `http://127.0.0.1:${port}/keys` };
  expect((await posthorn.call('POST', '/api/v1/jwt-issuers', issuer)).status).toBe(201);
  const away = signToken(
    { ...CLAIMS, iss: names.issuer, sub: 'away', exp: Math.floor(Date.now() / 1000) + 600 },
    makeKey('ES256', 'e1'),
  );
  for (let n = 0; n < 30; n++) expect((await publish('198.51.100.11', away, n % 2 === 0)).status).toBe(503);
  expect((await publish('198.51.100.11', guess())).status).toBe(401);
  keys.close();
});

test('a client gains nothing by what it writes into X-Forwarded-For itself', async () => {
  await exhaust('198.51.100.5');
  for (const spoofed of ['203.0.113.9, 198.51.100.5', `${'1.2.3.4, '.repeat(500)}198.51.100.5`, '?, 198.51.100.5']) {
    expect((await publish(spoofed, guess())).status, spoofed.slice(0, 40)).toBe(429);
  }
});

test('the addresses of an IPv6 network are one', async () => {
  for (let n = 0; n < 20; n++) expect((await publish(`2001:db8:7:7::${n}`, guess())).status).toBe(401);
  expect((await publish('2001:db8:7:7:ffff::1', guess())).status).toBe(429);
  expect((await publish('2001:db8:7:8::1', guess())).status).toBe(401);
});

test('what needs no key is answered all the same', async () => {
  await exhaust('198.51.100.6');
  const answer = await posthorn.call('GET', '/health/live', undefined, { 'x-forwarded-for': '198.51.100.6' });
  expect(answer.status).toBe(200);
});
