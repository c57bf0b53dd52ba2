import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { signToken } from '../../src/access/jwt/token-fixture.ts';
import { API_KEY_ROLES } from '../../src/access/key-roles.ts';
import { admits, PORTAL_ROLES, ROLES, type Role } from '../../src/http/permissions.ts';
import { createIdSource, formatId } from '../../src/kernel/ids.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { ROUTES, sameAs } from './documented-routes.ts';

/** A tenant with an API key and a JWT of each role. */
interface TestTenant {
  id: string;
  keys: Record<string, string>;
  tokens: Record<string, string>;
}

const JWT_SECRET = 'a secret that the issuer and we share';
const JWT_ISSUER = { issuer: 'https://login.example', audience: 'posthorn' };

/** What a caller may carry: what holds for one holds for the other. */
const CREDENTIALS = ['keys', 'tokens'] as const;

let posthorn: TestPosthorn;
let receiver: Receiver;
let victim: TestTenant;
let stranger: TestTenant;
beforeAll(async () => {
  [posthorn, receiver] = await Promise.all([startTestPosthorn(), startReceiver()]);
  await posthorn.call('POST', '/api/v1/jwt-issuers', { name: 'Login', secret: JWT_SECRET, ...JWT_ISSUER });
  [victim, stranger] = [await makeTenant('victim'), await makeTenant('stranger')];
});
afterAll(() => Promise.all([posthorn.stop(), receiver.stop()]));

async function makeTenant(slug: string): Promise<TestTenant> {
  const made = await posthorn.call('POST', '/api/v1/tenants', {
    slug,
    name: slug,
    settings: { allow_unknown_event_types: true },
  });
  const keys: Record<string, string> = {};
  const tokens: Record<string, string> = {};
  const { issuer: iss, audience: aud } = JWT_ISSUER;
  const exp = Math.floor(Date.now() / 1000) + 3_600;
  for (const role of API_KEY_ROLES) {
    const as = { 'x-tenant-id': made.body.id };
    keys[role] = (await posthorn.call('POST', '/api/v1/api-keys', { name: role, role }, as)).body.key;
    tokens[role] = signToken({ iss, aud, exp, sub: role, tenant: slug, role }, JWT_SECRET);
  }
  return { id: made.body.id, keys, tokens };
}

const callAs = (
  tenant: TestTenant,
  role: string,
  method: string,
  path: string,
  body?: unknown,
  credential: (typeof CREDENTIALS)[number] = 'keys',
) =>
  posthorn.call(method, path, body, role === 'operator' ? {} : { authorization: `Bearer ${tenant[credential][role]}` });

/** As a caller of this role; a portal token is made for the one request, since some requests end all tokens. */
async function askAs(
  tenant: TestTenant,
  role: Role,
  method: string,
  path: string,
  body: unknown,
  credential: (typeof CREDENTIALS)[number],
): Promise<Answer> {
  if (role !== 'portal_read' && role !== 'portal_manage') return callAs(tenant, role, method, path, body, credential);
  const wanted = { access: role === 'portal_read' ? 'read' : 'manage' };
  const { token } = (await callAs(tenant, 'owner', 'POST', '/api/v1/portal-tokens', wanted)).body;
  return posthorn.call(method, path, body, { authorization: `Bearer ${token}` });
}

/** Without the request's own id. */
const told = ({ status, body }: Answer) => ({ status, error: { ...body.error, request_id: undefined } });

describe('each route and role', () => {
  test('there is no route without a permission', () => {
    expect(ROUTES.filter(({ permission }) => permission === undefined)).toEqual([]);
    expect(ROUTES.length).toBeGreaterThan(50);
  });

  test.each(ROUTES)('$route', async ({ method, path, permission, portal }) => {
    const url = path.replace(/\{[^}]*\}/g, 'nothing');
    const body = method === 'GET' || method === 'DELETE' ? undefined : {};
    const unknown = await posthorn.call(method, url, body, { authorization: 'Bearer nobody' });
    if (permission === 'public') {
      expect([401, 403]).not.toContain(unknown.status);
      return;
    }
    expect(unknown.status).toBe(401);
    for (const credential of CREDENTIALS) {
      const answers: Record<string, string> = {};
      const expected: Record<string, string> = {};
      for (const role of [...ROLES, ...PORTAL_ROLES]) {
        const { status } = await askAs(stranger, role, method, url, body, credential);
        answers[role] = [401, 403].includes(status) ? `${status}` : 'let in';
        expected[role] = admits({ permission, portal }, role) ? 'let in' : '403';
      }
      expect([credential, answers]).toEqual([credential, expected]);
    }
  });
});

describe('what belongs to another tenant', () => {
  const newId = createIdSource();
  /** The victim's own, by the path that names it, and what has the same form and is nobody's. */
  const OWNED: Record<string, { theirs: string; nobodys: string }> = {};
  /** Bodies that are let through, so that only the owner is wrong. */
  const BODIES: Record<string, object> = {
    'POST /api/v1/webhooks/{id}/recover': { since: '2026-01-01T00:00:00Z' },
    'PUT /endpoints/{id}/status': { status: 'paused' },
    'POST /api/v1/templates/{id}/rollback': { version: 1 },
  };
  /** Of the victim too, but nothing that a path names. */
  let dead: string;
  const ownedBy = (path: string) =>
    Object.keys(OWNED).find((start) => path.replace('/analytics/', '/').startsWith(`${start}/{`));
  const OF_TENANTS = ROUTES.filter(
    ({ path, permission }) => path.includes('{') && permission !== 'operate' && !path.includes('{preset}'),
  );

  beforeAll(async () => {
    const ask = async (method: string, path: string, body?: unknown): Promise<Answer['body']> => {
      const answer = await callAs(victim, 'owner', method, path, body);
      expect(answer.status, `${method} ${path}: ${answer.text}`).toBeLessThan(300);
      return answer.body;
    };
    const webhook = await ask('POST', '/api/v1/webhooks', { name: 'Own', url: receiver.url, events: ['*'] });
    const type = await ask('POST', '/api/v1/event-types', { name: 'secret.type', description: 'Own' });
    const event = await ask('POST', '/api/v1/events', { event_type: 'secret.type', data: { secret: 1 } });
    await receiver.received(1);
    const {
      data: [delivery],
    } = await ask('GET', '/api/v1/deliveries');
    await ask('POST', '/api/v1/webhooks', {
      name: 'Dead',
      url: `${receiver.url}/dead`,
      events: ['dead.type'],
      retry_policy: { max_attempts: 1 },
    });
    receiver.onRequest = (request) => request.respond(request.path === '/dead' ? 500 : 200);
    await ask('POST', '/api/v1/events', { event_type: 'dead.type', data: {} });
    const letters = await eventually(
      () => ask('GET', '/api/v1/dead-letters'),
      ({ data }) => data.length === 1,
    );
    dead = letters.data[0].delivery_id;
    const range = { since: '2026-01-01T00:00:00Z', until: '2026-01-02T00:00:00Z' };
    const replay = await ask('POST', '/api/v1/replays', range);
    const {
      data: [key],
    } = await ask('GET', '/api/v1/api-keys');
    await eventually(
      () => ask('GET', `/api/v1/deliveries/${delivery.id}`),
      ({ status }) => status === 'delivered',
    );
    await eventually(
      () => ask('GET', `/api/v1/replays/${replay.id}`),
      ({ status }) => status === 'completed',
    );
    const erasure = await ask('POST', '/api/v1/erasures', { path: 'who', value: 'nobody' });
    await eventually(
      () => ask('GET', `/api/v1/erasures/${erasure.id}`),
      ({ status }) => status === 'completed',
    );
    const watched = { metric: 'dead_letters', threshold: 1, period: '1h', action: 'alert_operations_team' };
    const rule = await ask('POST', '/api/v1/alerts/rules', watched);
    const incidents = await eventually(
      () => ask('GET', '/api/v1/alerts/incidents'),
      ({ data }) => data.length === 1,
    );
    await ask('PATCH', `/api/v1/alerts/rules/${rule.id}`, { is_active: false });
    const [incident] = incidents.data;
    OWNED['/api/v1/alerts/rules'] = { theirs: rule.id, nobodys: formatId('alertRule', newId()) };
    OWNED['/api/v1/alerts/incidents'] = { theirs: incident.id, nobodys: formatId('incident', newId()) };
    OWNED['/api/v1/webhooks'] = { theirs: webhook.id, nobodys: formatId('webhook', newId()) };
    OWNED['/api/v1/webhooks/events'] = { theirs: type.name, nobodys: 'nobodys.type' };
    OWNED['/api/v1/event-types'] = { theirs: type.name, nobodys: 'nobodys.type' };
    OWNED['/api/v1/events'] = { theirs: event.id ?? event.event_id, nobodys: formatId('event', newId()) };
    OWNED['/api/v1/deliveries'] = { theirs: delivery.id, nobodys: formatId('delivery', newId()) };
    OWNED['/api/v1/replays'] = { theirs: replay.id, nobodys: formatId('replay', newId()) };
    OWNED['/api/v1/erasures'] = { theirs: erasure.id, nobodys: formatId('erasure', newId()) };
    const template = await ask('POST', '/api/v1/templates', { name: 'own', template: { a: '{{ data.secret }}' } });
    OWNED['/api/v1/templates'] = { theirs: template.id, nobodys: formatId('template', newId()) };
    const {
      data: [entry],
    } = await ask('GET', '/api/v1/audit');
    OWNED['/api/v1/audit'] = { theirs: entry.id, nobodys: formatId('audit', newId()) };
    OWNED['/api/v1/api-keys'] = { theirs: key.id, nobodys: formatId('apiKey', newId()) };
  });

  const everything = async () => {
    const paths = Object.entries(OWNED).map(([path, { theirs }]) => `${path}/${theirs}`);
    const answers = await Promise.all(paths.map((path) => callAs(victim, 'owner', 'GET', path)));
    return answers.map(({ status, text }, at) => ({ path: paths[at], status, text }));
  };

  test.each(CREDENTIALS)(
    'is not there for strangers’ %s, on any route, and is as it was after that',
    async (credential) => {
      const before = await everything();
      expect(before.every(({ status }) => status === 200)).toBe(true);
      const differing: unknown[] = [];
      for (const each of OF_TENANTS) {
        const { method, path, canonical, route } = each;
        const owned = OWNED[ownedBy(canonical) ?? ''];
        if (owned === undefined) throw new Error(`Say what stands for the parameter of ${route}.`);
        const given = BODIES[route] ?? BODIES[sameAs(each) ?? ''];
        const body = given ?? (method === 'GET' || method === 'DELETE' ? undefined : {});
        const ask = (id: string) => callAs(stranger, 'owner', method, path.replace(/\{[^}]*\}/, id), body, credential);
        const [ofVictim, ofNobody] = [told(await ask(owned.theirs)), told(await ask(owned.nobodys))];
        const same = JSON.stringify(ofVictim) === JSON.stringify(ofNobody);
        if (ofVictim.status !== 404 || !same) differing.push({ route, ofVictim, ofNobody });
      }
      expect(differing).toEqual([]);
      expect(await everything()).toEqual(before);
    },
  );

  test.each(CREDENTIALS)('is in none of the lists that strangers’ %s see', async (credential) => {
    expect(dead).toMatch(/^dlv_/);
    const lists = ROUTES.filter(
      ({ method, path, canonical, permission }) =>
        method === 'GET' && !path.includes('{') && canonical.startsWith('/api/v1/') && permission !== 'operate',
    );
    expect(lists.length).toBeGreaterThan(5);
    for (const { path } of lists) {
      const { text } = await callAs(stranger, 'owner', 'GET', path, undefined, credential);
      for (const id of [dead, ...Object.values(OWNED).map(({ theirs }) => theirs)])
        expect(text, path).not.toContain(id);
    }
  });
});

describe('a key with scopes', () => {
  const keyWith = async (scopes: string[]): Promise<Record<string, string>> => {
    const fields = { name: scopes.join(), role: 'owner', scopes };
    const made = await callAs(stranger, 'owner', 'POST', '/api/v1/api-keys', fields);
    expect(made.status, made.text).toBe(201);
    return { authorization: `Bearer ${made.body.key}` };
  };

  test('makes portal tokens only if it may read what they read', async () => {
    for (const [scopes, status] of [
      [['develop'], 403],
      [['read'], 403],
      [['develop', 'read'], 201],
    ] as const) {
      const asked = { owner: 'ann', access: 'read' };
      const as = await keyWith([...scopes]);
      expect((await posthorn.call('POST', '/api/v1/portal-tokens', asked, as)).status, scopes.join()).toBe(status);
    }
  });

  test('is shown payloads as they are only with the scope "reveal", whatever its role', async () => {
    const event = { event_type: 'order.paid', data: { password: 'hunter2' } };
    const { id } = (await callAs(stranger, 'owner', 'POST', '/api/v1/events', event)).body;
    for (const [scopes, password] of [
      [['read'], '***'],
      [['read', 'reveal'], 'hunter2'],
    ] as const) {
      const shown = await posthorn.call('GET', `/api/v1/events/${id}`, undefined, await keyWith([...scopes]));
      expect(shown.body.data, scopes.join()).toEqual({ password });
    }
  });
});
