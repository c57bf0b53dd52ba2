import http from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster, type TestNode } from './cluster.ts';
import { type PlainAnswer, publishPlainly } from './plain-publish.ts';

interface TestTenant {
  id: string;
  slug: string;
  key: string;
  keyId: string;
}

let made = 0;

async function makeTenant(posthorn: TestPosthorn, limits: object = {}, key: object = {}): Promise<TestTenant> {
  made += 1;
  const slug = `limited-${made}`;
  const settings = { allow_unknown_event_types: true };
  const { body: tenant } = await posthorn.call('POST', '/api/v1/tenants', { name: slug, slug, settings, limits });
  const keyBody = { name: 'key', role: 'owner', ...key };
  const { body } = await posthorn.call('POST', '/api/v1/api-keys', keyBody, { 'x-tenant-id': slug });
  return { id: tenant.id, slug, key: body.key, keyId: body.id };
}

const EVENT = { event_type: 'order.paid', data: { n: 1 } };

/** With the tenant's key. */
function callAs(posthorn: TestPosthorn, tenant: TestTenant, method: string, path: string, body?: unknown, more = {}) {
  return posthorn.call(method, path, body, { authorization: `Bearer ${tenant.key}`, ...more });
}

/**
 * Asks for a tenant of its own until that took less than `ms`, and returns the answers: limits of a second fill up again
 * meanwhile, on a slow machine with as much as is asked for.
 */
async function askWithin<T>(
  ms: number,
  make: () => Promise<TestTenant>,
  ask: (tenant: TestTenant) => Promise<T>,
): Promise<{ tenant: TestTenant; answers: T }> {
  for (let tries = 1; ; tries += 1) {
    const tenant = await make();
    const startMs = performance.now();
    const answers = await ask(tenant);
    if (performance.now() - startMs < ms || tries === 20) return { tenant, answers };
  }
}

/** The answers to as many calls, one after the other. */
async function inTurn<T>(count: number, call: (n: number) => Promise<T>): Promise<T[]> {
  const answers: T[] = [];
  for (let n = 0; n < count; n += 1) answers.push(await call(n));
  return answers;
}

const DAY_MS = 86_400_000;

/** For so long before midnight (UTC) no test of a day's quota begins: with the next day there is a new one. */
const NEAR_MIDNIGHT_MS = 30_000;

const dayIsLong = () =>
  eventually(
    async () => DAY_MS - (Date.now() % DAY_MS),
    (leftMs) => leftMs > NEAR_MIDNIGHT_MS,
    2 * NEAR_MIDNIGHT_MS,
  );

const RATE_HEADERS = ['limit', 'policy', 'remaining', 'reset'].map((name) => `ratelimit-${name}`);

const rateHeaders = ({ headers }: Answer | PlainAnswer) =>
  [...RATE_HEADERS, 'retry-after'].map((name) =>
    headers instanceof Headers ? headers.get(name) : (headers[name] ?? null),
  );

describe('on one node', () => {
  let posthorn: TestPosthorn;
  beforeAll(async () => {
    posthorn = await startTestPosthorn();
  });
  afterAll(() => posthorn.stop());

  test('without limits no answer speaks of any', async () => {
    const tenant = await makeTenant(posthorn);
    for (const answer of [
      await callAs(posthorn, tenant, 'POST', '/api/v1/events', EVENT),
      await callAs(posthorn, tenant, 'GET', '/api/v1/events'),
    ]) {
      expect([answer.status, rateHeaders(answer)]).toEqual([answer.status, [null, null, null, null, null]]);
    }
  });

  test.for([
    ['the direct way', {}],
    ['the HTTP server', { origin: 'http://example.com' }],
  ] as const)('by %s, publishes beyond the limit are a 429 that names it, and are not stored', async ([, headers]) => {
    const { tenant, answers } = await askWithin(
      300,
      () => makeTenant(posthorn, { events_per_second: 3 }),
      ({ key }) => inTurn(6, () => publishPlainly(posthorn.url, key, EVENT, { headers })),
    );
    const accepted = answers.filter(({ status }) => status === 202);
    const refused = answers.filter(({ status }) => status === 429);
    expect(accepted.length + refused.length).toBe(6);
    expect(rateHeaders(accepted[0] as PlainAnswer)).toEqual(['3', '3;w=1', '2', '1', null]);
    expect(rateHeaders(refused[0] as PlainAnswer)).toEqual(['3', '3;w=1', '0', '1', '1']);
    expect(refused[0]?.body.error).toMatchObject({
      code: 'rate_limited',
      message: "The tenant's limit of 3 events a second is used up; nothing was done.",
      details: { limit: 'events_per_second', of: 'tenant', value: 3 },
      request_id: expect.stringMatching(/^req_/),
      retry_after: expect.any(String),
    });
    const { body } = await callAs(posthorn, tenant, 'GET', '/api/v1/events');
    expect(body.data).toHaveLength(accepted.length);
  });

  test('a batch counts its events, all or none, and one that can never pass is told so', async () => {
    const batch = (of: TestTenant, count: number) =>
      callAs(posthorn, of, 'POST', '/api/v1/events/batch', { events: Array.from({ length: count }, () => EVENT) });
    const { tenant, answers } = await askWithin(
      850,
      () => makeTenant(posthorn, { events_per_second: 10 }),
      async (of) => [await batch(of, 11), await batch(of, 10), await batch(of, 9)],
    );
    expect(answers[0]?.body.error).toMatchObject({
      code: 'validation_failed',
      details: { fields: [{ path: 'events' }] },
    });
    expect(answers.map(({ status }) => status)).toEqual([422, 202, 429]);
    expect((await callAs(posthorn, tenant, 'GET', '/api/v1/events')).body.data).toHaveLength(10);
  });

  test('requests are limited for the tenant as a whole and for a key, and the operator is not', async () => {
    const list = async (tenant: TestTenant, key = tenant.key) =>
      (await callAs(posthorn, { ...tenant, key }, 'GET', '/api/v1/events')).body;
    const { tenant, answers } = await askWithin(
      450,
      () => makeTenant(posthorn, { requests_per_second: 4 }, { requests_per_second: 2 }),
      (of) => inTurn(3, () => list(of)),
    );
    const second = await posthorn.call(
      'POST',
      '/api/v1/api-keys',
      { name: 'second', role: 'viewer' },
      { 'x-tenant-id': tenant.slug },
    );
    expect(answers[2].error).toMatchObject({
      code: 'rate_limited',
      message: "The API key's limit of 2 requests a second is used up; nothing was done.",
      details: { limit: 'requests_per_second', of: 'api_key' },
    });
    // What was refused for the key has taken nothing of the tenant's.
    for (let n = 0; n < 20; n++) expect((await list(tenant)).error?.details.of ?? 'api_key').toBe('api_key');
    const { answers: others } = await askWithin(
      240,
      async () => tenant,
      () => inTurn(5, () => list(tenant, second.body.key)),
    );
    expect(others.at(-1).error).toMatchObject({ details: { limit: 'requests_per_second', of: 'tenant', value: 4 } });
    for (let n = 0; n < 10; n++) {
      expect((await posthorn.call('GET', '/api/v1/events', undefined, { 'x-tenant-id': tenant.slug })).status).toBe(
        200,
      );
    }
  });

  test('a request that the direct way leaves to the server is counted once', async () => {
    const tenant = await makeTenant(posthorn, { requests_per_second: 2 });
    // From here on the key is known from memory. Counted twice, the next request would find nothing left.
    expect((await publishPlainly(posthorn.url, tenant.key, EVENT)).status).toBe(202);
    const wrong = await publishPlainly(posthorn.url, tenant.key, { data: {} });
    expect([wrong.status, wrong.body.error.code]).toEqual([422, 'validation_failed']);
  });

  test('a request that is too much is refused by the direct way too', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const { answers } = await askWithin(
      900,
      () => makeTenant(posthorn, { requests_per_second: 1 }),
      ({ key }) => inTurn(2, () => publishPlainly(posthorn.url, key, EVENT, { agent })),
    );
    agent.destroy();
    expect(answers.map(({ status }) => status)).toEqual([202, 429]);
    expect(rateHeaders(answers[1] as PlainAnswer)).toEqual(['1', '1;w=1', '0', '1', '1']);
  });

  test('a changed limit counts for the next request, and for a key as well', async () => {
    const limited = async () => {
      const made = await makeTenant(posthorn);
      const limit = { requests_per_second: 1 };
      const { body } = await callAs(posthorn, made, 'PATCH', `/api/v1/api-keys/${made.keyId}`, limit);
      expect(body.requests_per_second).toBe(1);
      return made;
    };
    const { tenant, answers } = await askWithin(900, limited, (of) =>
      inTurn(2, () => callAs(posthorn, of, 'GET', '/api/v1/events')),
    );
    expect(rateHeaders(answers[0] as Answer)[0]).toBe('1');
    expect(answers[1]?.status).toBe(429);
    const asOperator = { 'x-tenant-id': tenant.slug };
    await posthorn.call('PATCH', `/api/v1/api-keys/${tenant.keyId}`, { requests_per_second: null }, asOperator);
    expect((await callAs(posthorn, tenant, 'GET', '/api/v1/events')).headers.get('ratelimit-limit')).toBeNull();
    const stranger = await makeTenant(posthorn);
    const theirs = { requests_per_second: 1 };
    expect((await callAs(posthorn, stranger, 'PATCH', `/api/v1/api-keys/${tenant.keyId}`, theirs)).status).toBe(404);
    expect((await posthorn.call('GET', `/api/v1/api-keys/${tenant.keyId}`, undefined, asOperator)).body).toMatchObject({
      requests_per_second: null,
    });
  });

  test('one tenant’s limit is nothing to another', async () => {
    const other = await makeTenant(posthorn, { events_per_second: 1 });
    const { answers } = await askWithin(
      900,
      () => makeTenant(posthorn, { events_per_second: 1 }),
      (one) => inTurn(2, () => callAs(posthorn, one, 'POST', '/api/v1/events', EVENT)),
    );
    expect(answers.map(({ status }) => status)).toEqual([202, 429]);
    expect((await callAs(posthorn, other, 'POST', '/api/v1/events', EVENT)).status).toBe(202);
  });

  test('of a day, duplicates and refused events do not count, and a restart does not forget', async () => {
    await dayIsLong();
    const tenant = await makeTenant(posthorn, { events_per_day: 4 });
    const publish = (body: object, more = {}) => callAs(posthorn, tenant, 'POST', '/api/v1/events', body, more);
    for (let n = 0; n < 5; n++) expect((await publish({ ...EVENT, event_id: 'one' })).status).toBe(202);
    // The same id for another event is refused.
    for (let n = 0; n < 5; n++) expect((await publish({ ...EVENT, data: 2, event_id: 'one' })).status).toBe(409);
    expect((await publish(EVENT)).status).toBe(202);
    await posthorn.restart();
    for (let n = 0; n < 2; n++)
      expect((await publish(EVENT, n === 0 ? {} : { origin: 'http://a.b' })).status).toBe(202);
    const refused = await publish(EVENT);
    expect(refused.status).toBe(429);
    expect(refused.body.error).toMatchObject({
      code: 'quota_exceeded',
      details: { limit: 'events_per_day', value: 4 },
    });
    const untilMidnight = (DAY_MS - (Date.now() % DAY_MS)) / 1_000;
    expect(Math.abs(Number(refused.headers.get('retry-after')) - untilMidnight)).toBeLessThan(5);
    // Whoever publishes for the tenant: the operator is held to what it may use.
    expect((await posthorn.call('POST', '/api/v1/events', EVENT, { 'x-tenant-id': tenant.slug })).status).toBe(429);
  }, 90_000);

  test('a tenant has so many webhooks in all of its environments, also when they are made at once', async () => {
    const tenant = await makeTenant(posthorn, { webhooks: 3 });
    const hook = { name: 'Hook', url: 'http://127.0.0.1:4000/hook', events: ['*'] };
    const environments = ['production', 'staging', 'development', 'production', 'staging', 'production'];
    const answers = await Promise.all(
      environments.map((environment) =>
        posthorn.call('POST', '/api/v1/webhooks', hook, { 'x-tenant-id': tenant.slug, 'x-environment': environment }),
      ),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 201, 201, 409, 409, 409]);
    expect(answers.find(({ status }) => status === 409)?.body.error).toMatchObject({
      code: 'too_many_webhooks',
      message: "The tenant's limit of 3 webhooks, all environments together, is reached.",
      details: { limit: 'webhooks', value: 3 },
    });
  });

  test('data beyond the tenant’s size is a 413 that says how much may be', async () => {
    const tenant = await makeTenant(posthorn, { payload_bytes: 20 });
    const sized = (bytes: number) => ({ event_type: 'order.paid', data: 'x'.repeat(bytes - 2) });
    expect((await callAs(posthorn, tenant, 'POST', '/api/v1/events', sized(20))).status).toBe(202);
    const refused = await callAs(posthorn, tenant, 'POST', '/api/v1/events', sized(21));
    expect(refused.status).toBe(413);
    expect(refused.body.error).toMatchObject({
      code: 'payload_too_large',
      message: "data has 21 bytes; the tenant's events may have at most 20.",
    });
    const batch = await callAs(posthorn, tenant, 'POST', '/api/v1/events/batch', { events: [sized(5), sized(25)] });
    expect(batch.body.error.message).toContain('events.1.data has 25 bytes');
  });

  test('only the operator has a say over limits', async () => {
    const tenant = await makeTenant(posthorn, { requests_per_second: 100 });
    const raise = { limits: { requests_per_second: 1_000 } };
    expect((await callAs(posthorn, tenant, 'PATCH', `/api/v1/tenants/${tenant.id}`, raise)).status).toBe(403);
    expect((await posthorn.call('GET', `/api/v1/tenants/${tenant.id}`)).body.limits.requests_per_second).toBe(100);
  });
});

test('a tenant without limits of its own has the defaults, and its own go before them', async () => {
  const posthorn = await startTestPosthorn({
    defaultLimits: {
      requests_per_second: null,
      events_per_second: 1,
      events_per_day: null,
      webhooks: null,
      payload_bytes: null,
    },
  });
  try {
    const own = await makeTenant(posthorn, { events_per_second: 1_000 });
    const statuses = (tenant: TestTenant) =>
      inTurn(2, async () => (await callAs(posthorn, tenant, 'POST', '/api/v1/events', EVENT)).status);
    const { answers } = await askWithin(900, () => makeTenant(posthorn), statuses);
    expect(answers).toEqual([202, 429]);
    expect(await statuses(own)).toEqual([202, 202]);
  } finally {
    await posthorn.stop();
  }
});

describe('on two nodes', () => {
  let cluster: Cluster;
  let receiver: Receiver;
  beforeAll(async () => {
    [cluster, receiver] = await Promise.all([startCluster(2), startReceiver()]);
  });
  afterAll(async () => {
    await cluster.stop();
    await receiver.stop();
  });

  test('publishes through both get no more than the limit together, and nearly all of it through one', async () => {
    const limit = 150;
    const tenant = await makeTenant(cluster.first, { events_per_second: limit });
    const accepted = async (nodes: TestNode[], ms: number) => {
      let count = 0;
      let refused = 0;
      const startMs = performance.now();
      const agent = new http.Agent({ keepAlive: true });
      await Promise.all(
        nodes.flatMap((node) =>
          Array.from({ length: 8 }, async () => {
            while (performance.now() - startMs < ms) {
              const { status } = await publishPlainly(node.url, tenant.key, EVENT, { agent });
              if (status === 202) count += 1;
              else if (status === 429) refused += 1;
              else throw new Error(`An answer of ${status} came.`);
            }
          }),
        ),
      );
      agent.destroy();
      return { count, refused, seconds: (performance.now() - startMs) / 1_000 };
    };
    const both = await accepted(cluster.nodes, 2_500);
    expect(both.refused).toBeGreaterThan(0);
    expect(both.count).toBeLessThanOrEqual(limit * (both.seconds + 1));
    expect(both.count).toBeGreaterThan(0.85 * limit * both.seconds);
    const one = await accepted(cluster.nodes.slice(0, 1), 2_000);
    expect(one.refused).toBeGreaterThan(0);
    expect(one.count).toBeLessThanOrEqual(limit * (one.seconds + 1));
    expect(one.count).toBeGreaterThan(0.85 * limit * one.seconds);
  });

  test('a quota of a day is one for both, exact to the last event', async () => {
    await dayIsLong();
    const tenant = await makeTenant(cluster.first, { events_per_day: 50 });
    let count = 0;
    for (let n = 0; n < 40; n++) {
      for (const node of cluster.nodes) {
        const { status } = await callAs(node, tenant, 'POST', '/api/v1/events', EVENT);
        if (status === 202) count += 1;
      }
    }
    expect(count).toBe(50);
  }, 90_000);
});
