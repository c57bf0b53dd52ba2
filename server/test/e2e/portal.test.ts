import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type PortalClaims, readPortalToken, writePortalToken } from '../../src/access/portal-token.ts';
import { createIdSource, formatId } from '../../src/kernel/ids.ts';
import type { SecretBox } from '../../src/kernel/secret-box.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { secretBoxOf, testSecretBox } from '../../src/testing/secret-box.ts';
import { ROUTES, sameAs } from './documented-routes.ts';

const OF_PORTALS = ROUTES.filter(({ portal }) => portal !== undefined);

/** Where a portal is: a tenant's environment, and the owner that its tokens are for; undefined: no owner. */
interface Place {
  tenant: string;
  environment: string;
  owner: string | undefined;
}

/** What a place has. */
interface Holdings {
  /** Ids of what can be read, by the path that reads them. */
  ids: Record<string, string>;
  /** The publisher's own id of the event. */
  eventId: string;
  /** A webhook whose receiver fails, and its dead delivery. */
  failing: string;
  dead: string;
}

let posthorn: TestPosthorn;
let receiver: Receiver;
const newId = createIdSource();

beforeAll(async () => {
  [posthorn, receiver] = await Promise.all([startTestPosthorn(), startReceiver()]);
  receiver.onRequest = (request) => request.respond(request.path === '/dead' ? 500 : 200);
});
afterAll(() => Promise.all([posthorn.stop(), receiver.stop()]));

const asOperator = ({ tenant, environment }: Place) => ({ 'x-tenant-id': tenant, 'x-environment': environment });

async function succeed(answer: Promise<Answer>): Promise<Answer['body']> {
  const { status, text, body } = await answer;
  expect(status, text).toBeLessThan(300);
  return body;
}

async function makePlace(owner: string | undefined, of: Partial<Place> = {}): Promise<Place> {
  const tenant = of.tenant ?? `t-${newId().slice(24)}`;
  if (of.tenant === undefined) {
    const settings = { allow_unknown_event_types: true };
    await succeed(posthorn.call('POST', '/api/v1/tenants', { slug: tenant, name: tenant, settings }));
  }
  return { tenant, environment: of.environment ?? 'production', owner };
}

async function makeToken(place: Place, access: 'read' | 'manage' = 'manage'): Promise<string> {
  const { owner } = place;
  const body = { access, ...(owner !== undefined && { owner }) };
  return (await succeed(posthorn.call('POST', '/api/v1/portal-tokens', body, asOperator(place)))).token;
}

const withToken = (token: string, method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  posthorn.call(method, path, body, { ...headers, authorization: `Bearer ${token}` });

/** With a new token of the place. */
const askAs = async (place: Place, method: string, path: string, body?: unknown, access?: 'read' | 'manage') =>
  withToken(await makeToken(place, access), method, path, body);

const tellOf = ({ status, body }: Answer) => ({ status, error: { ...body.error, request_id: undefined } });

const webhookFields = (fields: object = {}) => ({ name: 'CRM', url: receiver.url, events: ['order.paid'], ...fields });

/** Gives the owner of a place a webhook with a delivered event, one with a dead letter, and a replay job. */
async function furnish(place: Place): Promise<Holdings> {
  const mark = newId();
  const ask = (method: string, path: string, body?: unknown) => succeed(askAs(place, method, path, body));
  const publish = (event_type: string, more: object = {}) =>
    succeed(posthorn.call('POST', '/api/v1/events', { event_type, data: { mark }, ...more }, asOperator(place)));
  const webhook = await ask('POST', '/api/v1/webhooks', webhookFields({ events: [`good.${mark}`] }));
  const failing = await ask(
    'POST',
    '/api/v1/webhooks',
    webhookFields({ url: `${receiver.url}/dead`, events: [`bad.${mark}`], retry_policy: { max_attempts: 1 } }),
  );
  const event = await publish(`good.${mark}`, { event_id: mark, metadata: { cost: 3 }, ordering_key: 'k' });
  await publish(`bad.${mark}`);
  const [delivery] = await eventually(
    async () => (await ask('GET', `/api/v1/webhooks/${webhook.id}/deliveries`)).data,
    ([first]) => first?.status === 'delivered',
  );
  const [letter] = await eventually(
    async () => (await ask('GET', `/api/v1/dead-letters?webhook_id=${failing.id}`)).data,
    (data) => data.length === 1,
  );
  const job = await ask('POST', `/api/v1/webhooks/${webhook.id}/recover`, { since: '2020-01-01T00:00:00Z' });
  await eventually(
    () => ask('GET', `/api/v1/replays/${job.id}`),
    ({ status }) => status === 'completed',
  );
  return {
    ids: {
      '/api/v1/webhooks': webhook.id,
      '/api/v1/events': event.id,
      '/api/v1/deliveries': delivery.id,
      '/api/v1/replays': job.id,
    },
    eventId: mark,
    failing: failing.id,
    dead: letter.delivery_id,
  };
}

/** All that the operator sees of what a place has. */
async function stateOf(place: Place, { ids, failing, dead }: Holdings): Promise<Answer['body'][]> {
  const paths = [...Object.entries(ids).map(([path, id]) => `${path}/${id}`)];
  paths.push(`/api/v1/webhooks/${failing}`, `/api/v1/deliveries/${dead}`, `/api/v1/dead-letters?webhook_id=${failing}`);
  return Promise.all(paths.map((path) => succeed(posthorn.call('GET', path, undefined, asOperator(place)))));
}

describe('making a token', () => {
  let place: Place;
  beforeAll(async () => {
    place = await makePlace('anna');
  });

  test('answers with the token, when it ends, and what it is for', async () => {
    const before = Date.now();
    const ask = (body: unknown) => posthorn.call('POST', '/api/v1/portal-tokens', body, asOperator(place));
    const { status, body } = await ask({ owner: 'anna', access: 'read' });
    expect(status).toBe(201);
    expect(body).toEqual({
      token: expect.stringMatching(/^ph_portal_/),
      expires_at: expect.any(String),
      owner: 'anna',
      access: 'read',
    });
    const lives = Date.parse(body.expires_at) - before;
    expect(lives).toBeGreaterThanOrEqual(3_600_000);
    expect(lives).toBeLessThan(3_660_000);
    const other = await ask({ access: 'manage', expires_in_seconds: 60 });
    expect(other.body).toMatchObject({ owner: null, access: 'manage' });
    expect(Date.parse(other.body.expires_at)).toBeLessThan(Date.now() + 61_000);
  });

  test.each([
    [{}, 'access'],
    [{ access: 'owner' }, 'access'],
    [{ access: 'read', owner: '' }, 'owner'],
    [{ access: 'read', owner: null }, 'owner'],
    [{ access: 'read', owner: 'a\0' }, 'owner'],
    [{ access: 'read', owner: 'x'.repeat(201) }, 'owner'],
    [{ access: 'read', owner: '\ud800' }, 'owner'],
    [{ access: 'read', expires_in_seconds: 59 }, 'expires_in_seconds'],
    [{ access: 'read', expires_in_seconds: 86_401 }, 'expires_in_seconds'],
    [{ access: 'read', environment: 'staging' }, 'environment'],
    [{ access: 'read', ownr: 'anna' }, 'ownr'],
  ])('refuses %j', async (body, path) => {
    const answer = await posthorn.call('POST', '/api/v1/portal-tokens', body, asOperator(place));
    expect([answer.status, answer.body.error.details.fields[0].path]).toEqual([422, path]);
  });

  test('works for the longest and strangest owners', async () => {
    for (const owner of ['\u0001'.repeat(200), '😀'.repeat(100), "' OR 1=1 --", '%', '__proto__', ' anna']) {
      const strange = { ...place, owner };
      const created = await succeed(askAs(strange, 'POST', '/api/v1/webhooks', webhookFields()));
      expect(created.owner).toBe(owner);
      const { data } = await succeed(askAs(strange, 'GET', '/api/v1/webhooks'));
      expect(data.map(({ id }: { id: string }) => id)).toEqual([created.id]);
    }
  });
});

describe('a token that is no good', () => {
  const read = async (token: string, headers = {}) => {
    const { status, body } = await withToken(token, 'GET', '/api/v1/webhooks', undefined, headers);
    if (status === 401) expect(body.error.message).toMatch(/^A valid key is needed/);
    return status;
  };
  /** The box of the tests' program. */
  let box: SecretBox;
  beforeAll(async () => {
    box = await secretBoxOf(posthorn.database.connection);
  });
  const claimsOf = (token: string) => readPortalToken(box, token) as PortalClaims;

  test('a good one is let in', async () => {
    expect(await read(await makeToken(await makePlace('anna')))).toBe(200);
  });

  test('has expired', async () => {
    const claims = claimsOf(await makeToken(await makePlace('anna')));
    expect(await read(writePortalToken(box, { ...claims, expiresAtMs: Date.now() + 60_000 }))).toBe(200);
    expect(await read(writePortalToken(box, { ...claims, expiresAtMs: Date.now() }))).toBe(401);
  });

  test('was signed with another key', async () => {
    const claims = claimsOf(await makeToken(await makePlace('anna')));
    expect(await read(writePortalToken(testSecretBox(), claims))).toBe(401);
  });

  test('says something else than what was signed', async () => {
    const token = await makeToken(await makePlace('anna', {}), 'read');
    const [content = '', signature = ''] = token.slice('ph_portal_'.length).split('.');
    const changed = Buffer.from(JSON.stringify({ ...claimsOf(token), access: 'manage' })).toString('base64url');
    const lastDigit = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const spelled = lastDigit[lastDigit.indexOf(signature.slice(-1)) ^ 1];
    for (const bad of [
      `ph_portal_${changed}.${signature}`,
      `ph_portal_${content}.${signature.slice(0, -1)}${spelled}`,
      `ph_portal_${content}.${'A'.repeat(43)}`,
      `ph_portal_${content}.`,
      `ph_portal_${content}`,
      `ph_portal_.${signature}`,
      `ph_portal_${content}=.${signature}`,
      `ph_portal_${content}.${signature}.${signature}`,
      `ph_portal_${content}.${signature}A`,
      `ph_portal_${'A'.repeat(1_990)}.${signature}`,
      `ph_portal_${'A'.repeat(10_000)}.${signature}`,
      token.toUpperCase(),
      'ph_portal_',
    ]) {
      expect([bad, await read(bad)]).toEqual([bad, 401]);
    }
    expect(await read(token)).toBe(200);
  });

  test('is of a tenant or an environment that was deleted, also where a new one has the name', async () => {
    const place = await makePlace('anna', {});
    const staging = { ...place, environment: 'staging' };
    const [inProduction, inStaging] = [await makeToken(place), await makeToken(staging)];
    expect([await read(inProduction), await read(inStaging)]).toEqual([200, 200]);
    const environments = `/api/v1/tenants/${place.tenant}/environments`;
    await succeed(posthorn.call('DELETE', `${environments}/staging`));
    expect([await read(inProduction), await read(inStaging)]).toEqual([200, 401]);
    await succeed(posthorn.call('POST', environments, { name: 'staging' }));
    expect(await read(inStaging)).toBe(401);
    expect(await read(await makeToken(staging))).toBe(200);
    await succeed(posthorn.call('DELETE', `/api/v1/tenants/${place.tenant}`));
    expect(await read(inProduction)).toBe(401);
  });

  test('names another tenant or environment in a header', async () => {
    const [place, other] = [await makePlace('anna'), await makePlace('anna')];
    const token = await makeToken(place);
    expect(await read(token, asOperator(place))).toBe(200);
    expect(await read(token, asOperator(other))).toBe(403);
    expect(await read(token, asOperator({ ...place, environment: 'staging' }))).toBe(403);
  });

  test('was revoked: of an owner, or all of an environment, and later ones are good', async () => {
    const place = await makePlace('anna');
    const places = [
      place,
      { ...place, owner: 'bert' },
      { ...place, owner: undefined },
      { ...place, environment: 'staging' },
      await makePlace('anna'),
    ];
    const tokens = await Promise.all(places.map((each) => makeToken(each)));
    const statuses = () => Promise.all(tokens.map((token) => read(token)));
    const revoke = (body: unknown) => posthorn.call('POST', '/api/v1/portal-tokens/revoke', body, asOperator(place));
    expect(await statuses()).toEqual([200, 200, 200, 200, 200]);
    expect((await revoke({ owner: 'anna' })).status).toBe(204);
    expect(await statuses()).toEqual([401, 200, 200, 200, 200]);
    tokens[0] = await makeToken(place);
    expect(await statuses()).toEqual([200, 200, 200, 200, 200]);
    expect((await revoke({})).status).toBe(204);
    expect(await statuses()).toEqual([401, 401, 401, 200, 200]);
    expect((await revoke({})).status).toBe(204);
    tokens[0] = await makeToken(place);
    expect(await statuses()).toEqual([200, 401, 401, 200, 200]);
    expect((await revoke({ owner: '' })).status).toBe(422);
    await posthorn.restart();
    expect(await statuses()).toEqual([200, 401, 401, 200, 200]);
  });
});

describe('what a token is not for', () => {
  test('publishing, by the way of plain publishes too', async () => {
    for (const owner of ['anna', undefined]) {
      const place = await makePlace(owner);
      const token = await makeToken(place);
      const event = { event_type: 'order.paid', data: {} };
      for (const attempt of [
        withToken(token, 'POST', '/api/v1/events', event),
        withToken(token, 'POST', '/api/v1/events', event, { 'idempotency-key': 'x' }),
        withToken(token, 'POST', '/api/v1/events/batch', { events: [event] }),
      ]) {
        expect(tellOf(await attempt)).toEqual({
          status: 403,
          error: {
            code: 'forbidden',
            message: 'Portal tokens cannot be used for this.',
            details: {},
            request_id: undefined,
          },
        });
      }
      const { data } = await succeed(posthorn.call('GET', '/api/v1/events', undefined, asOperator(place)));
      expect(data).toEqual([]);
    }
  });

  test('a token that reads is refused by every route that changes something, and told why', async () => {
    const place = await makePlace('anna');
    const changing = OF_PORTALS.filter(({ portal }) => portal === 'manage');
    expect(changing.length).toBeGreaterThan(15);
    expect(OF_PORTALS.filter(({ method, portal }) => method !== 'GET' && portal === 'read')).toEqual([]);
    for (const { method, path, route } of changing) {
      const body = method === 'GET' || method === 'DELETE' ? undefined : {};
      const answer = await askAs(place, method, path.replace(/\{[^}]*\}/, 'nothing'), body, 'read');
      expect([route, answer.status, answer.body.error.message]).toEqual([
        route,
        403,
        'This needs a portal token with the access "manage".',
      ]);
    }
  });
});

describe('what belongs to others', () => {
  /** Whose it is, and who else asks. */
  let anna: Place;
  let hers: Holdings;
  let strangers: Record<string, Place>;
  let everyone: [Place, Holdings][];
  beforeAll(async () => {
    anna = await makePlace('anna');
    hers = await furnish(anna);
    strangers = {
      'another owner': { ...anna, owner: 'bert' },
      'an owner with the longer name': { ...anna, owner: 'anna ' },
      'the owner of this name in another environment': { ...anna, environment: 'staging' },
      'the owner of this name in another tenant': await makePlace('anna'),
      'another tenant’s token without an owner': await makePlace(undefined),
    };
    everyone = [[anna, hers]];
    for (const stranger of Object.values(strangers)) everyone.push([stranger, await furnish(stranger)]);
  });

  /** Bodies that are let through, so that only the owner is wrong. */
  const BODIES: Record<string, object> = {
    'POST /api/v1/webhooks/{id}/recover': { since: '2026-01-01T00:00:00Z' },
    'PUT /endpoints/{id}/status': { status: 'paused' },
  };
  const NOBODYS = {
    '/api/v1/webhooks': formatId('webhook', newId()),
    '/api/v1/events': formatId('event', newId()),
    '/api/v1/deliveries': formatId('delivery', newId()),
    '/api/v1/replays': formatId('replay', newId()),
  };
  const startOf = (path: string) =>
    Object.keys(NOBODYS).find((start) => path.replace('/analytics/', '/').startsWith(`${start}/{id}`));
  /** The catalogue is the environment's. */
  const OF_ROWS = OF_PORTALS.filter(({ path }) => path.includes('{') && !/event-types|webhooks\/events/.test(path));

  test('is not there for a token, on any route, and is as it was after that', async () => {
    expect(OF_ROWS.length).toBeGreaterThan(18);
    const before = await Promise.all(everyone.map(([place, holdings]) => stateOf(place, holdings)));
    const differing: unknown[] = [];
    for (const [who, stranger] of Object.entries(strangers)) {
      const token = await makeToken(stranger);
      for (const each of OF_ROWS) {
        const { method, path, canonical, route } = each;
        const start = startOf(canonical) as keyof typeof NOBODYS;
        if (start === undefined) throw new Error(`Say what stands for the parameter of ${route}.`);
        const given = BODIES[route] ?? BODIES[sameAs(each) ?? ''];
        const body = given ?? (method === 'GET' || method === 'DELETE' ? undefined : {});
        const ask = async (id: string) => tellOf(await withToken(token, method, path.replace('{id}', id), body));
        const ofNobody = await ask(NOBODYS[start]);
        const theirs = [hers.ids[start], ...(start === '/api/v1/webhooks' ? [hers.failing] : [])];
        if (start === '/api/v1/events') theirs.push(hers.eventId);
        if (start === '/api/v1/deliveries') theirs.push(hers.dead);
        for (const id of theirs) {
          const answer = await ask(id as string);
          const same = JSON.stringify(answer) === JSON.stringify(ofNobody);
          if (answer.status !== 404 || !same) differing.push({ who, route, answer, ofNobody });
        }
      }
    }
    expect(differing).toEqual([]);
    expect(await Promise.all(everyone.map(([place, holdings]) => stateOf(place, holdings)))).toEqual(before);
  });

  test('is in no list, whatever it is filtered by and wherever it begins', async () => {
    // The catalogue is the environment's, and the live stream has tests of its own.
    const lists = OF_PORTALS.filter(
      ({ method, path }) => method === 'GET' && !/\{|event-types|webhooks\/events|\/stream$/.test(path),
    ).map(({ path }) => path);
    expect(lists.length).toBeGreaterThan(4);
    expect(lists).toContain('/api/v1/dead-letters');
    const secrets = [...Object.values(hers.ids), hers.failing, hers.dead];
    const filters = [
      '',
      'owner=anna',
      `webhook_id=${hers.ids['/api/v1/webhooks']}`,
      `webhook_id=${hers.failing}`,
      `event_id=${hers.ids['/api/v1/events']}`,
      `event_id=${hers.eventId}`,
      `q=${hers.eventId}`,
    ];
    // Cursors of hers: after each row of each of her lists.
    for (const list of lists) {
      const { next_cursor: cursor } = await succeed(askAs(anna, 'GET', `${list}?limit=1`));
      if (typeof cursor === 'string') filters.push(`cursor=${cursor}`);
    }
    expect(filters.length).toBeGreaterThan(8);
    for (const stranger of Object.values(strangers)) {
      const token = await makeToken(stranger, 'read');
      for (const list of lists) {
        for (const filter of filters) {
          const { status, text } = await withToken(token, 'GET', `${list}?${filter}`);
          // A list that is filtered by a webhook is empty; figures of one are not there.
          const ofWebhook = list.includes('/analytics/') && filter.startsWith('webhook_id') && status === 404;
          if (!ofWebhook) expect([list, filter, status]).toEqual([list, filter, 200]);
          for (const secret of secrets) expect(text, `${list}?${filter}`).not.toContain(secret);
        }
      }
    }
  });

  test('is not among the pages of a list, which hold every own row once', async () => {
    const bert = everyone[1] as [Place, Holdings];
    const token = await makeToken(bert[0], 'read');
    for (const [list, own] of [
      ['/api/v1/webhooks', [bert[1].ids['/api/v1/webhooks'], bert[1].failing]],
      ['/api/v1/deliveries', [bert[1].ids['/api/v1/deliveries'], bert[1].dead]],
    ] as const) {
      const seen: string[] = [];
      for (let cursor = ''; ; ) {
        const page = await succeed(withToken(token, 'GET', `${list}?limit=1${cursor}`));
        expect(page.data).toHaveLength(1);
        seen.push(page.data[0].id);
        if (!page.has_more) break;
        cursor = `&cursor=${page.next_cursor}`;
      }
      expect(seen.sort()).toEqual([...own].sort());
    }
  });

  test('is left alone by what is done to many at once', async () => {
    const before = await stateOf(anna, hers);
    for (const [stranger, holdings] of everyone.slice(1)) {
      const token = await makeToken(stranger);
      const ask = (method: string, path: string, body?: unknown) => withToken(token, method, path, body);
      const theirs = { webhook_id: hers.failing };
      for (const path of ['/api/v1/dead-letters/replay', '/api/v1/replays']) {
        expect((await ask('POST', path, { since: '2020-01-01T00:00:00Z', ...theirs })).status).toBe(
          path.endsWith('replays') ? 403 : 422,
        );
      }
      expect((await succeed(ask('POST', '/api/v1/dead-letters/purge', theirs))).purged).toBe(0);
      const trial = await succeed(ask('POST', '/api/v1/dead-letters/replay', { dry_run: true }));
      expect(trial.estimated_deliveries).toBe(1);
      const job = await succeed(ask('POST', '/api/v1/dead-letters/replay', {}));
      const done = await eventually(
        () => succeed(ask('GET', `/api/v1/replays/${job.id}`)),
        ({ status }) => status === 'completed',
      );
      expect(done).toMatchObject({ replayed: 1, skipped: 0, filter: { owner: stranger.owner ?? null } });
      // It failed again; now it goes.
      await eventually(
        () => succeed(ask('GET', `/api/v1/deliveries/${holdings.dead}`)),
        ({ attempt_count: count, status }) => count === 2 && status === 'dead',
      );
      expect((await succeed(ask('POST', '/api/v1/dead-letters/purge', {}))).purged).toBe(1);
    }
    expect(await stateOf(anna, hers)).toEqual(before);
  });

  test('does not use up what an owner may do: replays of others count for them alone', async () => {
    const { tenant } = anna;
    const scope = { tenant, environment: 'development', owner: undefined };
    const start = async (place: Place) => (await askAs(place, 'POST', '/api/v1/dead-letters/replay', {})).status;
    const [a, b] = [
      { ...scope, owner: 'anna' },
      { ...scope, owner: 'bert' },
    ];
    const client = new pg.Client(posthorn.database.connection);
    await client.connect();
    // Unfinished, and nothing takes them up.
    await client.query(
      `INSERT INTO replay_jobs (tenant_id, environment_id, id, trigger, until_at, status, estimated, estimate_is_exact,
         cursor_id, next_chunk_at, created_at, owner)
       SELECT e.tenant_id, e.id, gen_random_uuid(), 'recover', 'infinity', 'queued', 0, true, gen_random_uuid(),
         'infinity', now(), 'anna'
       FROM environments e JOIN tenants t ON t.id = e.tenant_id, generate_series(1, 3)
       WHERE t.slug = $1 AND e.name = 'development'`,
      [tenant],
    );
    await client.end();
    expect(await start(a)).toBe(409);
    expect(await start(b)).toBe(202);
    expect(await start(scope)).toBe(202);
  });
});

describe('an owner’s own', () => {
  let anna: Place;
  let hers: Holdings;
  beforeAll(async () => {
    anna = await makePlace('anna');
    hers = await furnish(anna);
  });

  test('every route of portals lets the owner to it', async () => {
    const other = await furnish(anna);
    const refused: unknown[] = [];
    const isLast = ({ method, canonical }: (typeof ROUTES)[number]) =>
      method === 'DELETE' && canonical === '/api/v1/webhooks/{id}';
    for (const each of OF_PORTALS.toSorted((a, b) => Number(isLast(a)) - Number(isLast(b)))) {
      const { method, path, canonical, route } = each;
      const bare = canonical.replace('/analytics/', '/');
      const start = Object.keys(other.ids).find((kind) => bare.startsWith(`${kind}/{id}`)) ?? '';
      // It can be deleted once.
      const id = isLast(each)
        ? (await succeed(askAs(anna, 'POST', '/api/v1/webhooks', webhookFields()))).id
        : other.ids[start];
      const url = path.replace('{id}', id ?? '').replace(/\{(name|type)\}/, 'nothing');
      const bodies: Record<string, object> = {
        'POST /api/v1/webhooks': webhookFields(),
        'POST /api/v1/webhooks/{id}/recover': { since: '2020-01-01T00:00:00Z' },
        'PUT /endpoints/{id}/status': { status: 'active' },
        // Unfinished jobs of an owner are few.
        ...Object.fromEntries(
          ['/api/communications/webhooks', '/endpoints'].map((at) => [
            `POST ${at}/{id}/recover`,
            { since: '2020-01-01T00:00:00Z', dry_run: true },
          ]),
        ),
        'POST /api/v1/filters/test': { filters: [], data: {} },
      };
      const body =
        bodies[route] ?? bodies[sameAs(each) ?? ''] ?? (method === 'GET' || method === 'DELETE' ? undefined : {});
      const { status, text } = await askAs(anna, method, url, body);
      // What has ended cannot be tried again or cancelled; and there are no event types.
      const expected = /retry|cancel|DELETE \S+replays/.test(route) ? 409 : /\{(name|type)\}/.test(path) ? 404 : 200;
      if (expected === 200 ? status >= 300 : status !== expected) refused.push({ route, status, text });
    }
    expect(refused).toEqual([]);
  });

  test('a webhook that is created belongs to the owner, and stays so', async () => {
    const token = await makeToken(anna);
    const create = (fields: object) => withToken(token, 'POST', '/api/v1/webhooks', webhookFields(fields));
    expect((await succeed(create({}))).owner).toBe('anna');
    const own = await succeed(create({ owner: 'anna', priority: 0 }));
    expect(own.owner).toBe('anna');
    for (const fields of [{ owner: 'bert' }, { owner: null }, { owner: '' }, { priority: 1 }]) {
      const created = await create(fields);
      expect([fields, created.status, created.body.error?.code]).toEqual([fields, 403, 'forbidden']);
      for (const method of ['PUT', 'PATCH']) {
        const changed = await withToken(token, method, `/api/v1/webhooks/${own.id}`, fields);
        expect([fields, changed.status, changed.body.error?.code]).toEqual([fields, 403, 'forbidden']);
      }
    }
    const path = `/api/v1/webhooks/${own.id}`;
    const { secret: _, ...unchanged } = own;
    expect(await succeed(withToken(token, 'GET', path))).toEqual(unchanged);
    expect((await succeed(withToken(token, 'PATCH', path, { owner: 'anna', name: 'New' }))).name).toBe('New');
    // What the tenant has set itself may be sent back.
    const byTenant = { priority: 5, events: ['webhook.*'] };
    await succeed(posthorn.call('PATCH', path, byTenant, asOperator(anna)));
    await succeed(withToken(token, 'PUT', path, { ...byTenant, name: 'Newer' }));
    expect((await withToken(token, 'PATCH', path, { priority: 0 })).status).toBe(403);
  });

  test('are a hundred webhooks at most by tokens; more are for the tenant to make', async () => {
    const carl = { ...anna, owner: 'carl' };
    const token = await makeToken(carl);
    const create = () => withToken(token, 'POST', '/api/v1/webhooks', webhookFields({ events: ['nothing.here'] }));
    const answers = await Promise.all(Array.from({ length: 110 }, create));
    const refused = answers.filter(({ status }) => status !== 201);
    expect(refused.map(({ status, body }) => [status, body.error.code])).toEqual(
      Array.from({ length: 10 }, () => [409, 'too_many_webhooks']),
    );
    const byTenant = webhookFields({ owner: 'carl' });
    await succeed(posthorn.call('POST', '/api/v1/webhooks', byTenant, asOperator(anna)));
    await succeed(askAs({ ...anna, owner: 'dora' }, 'POST', '/api/v1/webhooks', webhookFields()));
  });

  test('a token without an owner may do all this with any webhook of the environment', async () => {
    const token = await makeToken({ ...anna, owner: undefined });
    const path = `/api/v1/webhooks/${hers.failing}`;
    const change = { owner: 'bert', priority: 3, events: ['webhook.disabled'] };
    expect(await succeed(withToken(token, 'PATCH', path, change))).toMatchObject(change);
    expect((await askAs(anna, 'GET', path)).status).toBe(404);
    expect((await askAs(anna, 'GET', `/api/v1/deliveries/${hers.dead}`)).status).toBe(404);
    const bert = { ...anna, owner: 'bert' };
    expect((await askAs(bert, 'GET', path)).status).toBe(200);
    expect((await askAs(bert, 'GET', `/api/v1/deliveries/${hers.dead}`)).status).toBe(200);
  });

  test('an event shows what went to the owner, and nothing of who else got it', async () => {
    const bert = { ...anna, owner: 'bert' };
    const mine = await succeed(askAs(anna, 'POST', '/api/v1/webhooks', webhookFields({ events: ['both.got'] })));
    const theirs = await succeed(askAs(bert, 'POST', '/api/v1/webhooks', webhookFields({ events: ['both.got'] })));
    const event = { event_type: 'both.got', data: { n: 1.0 }, metadata: { cost: 3 }, ordering_key: 'k' };
    const { id } = await succeed(posthorn.call('POST', '/api/v1/events', event, asOperator(anna)));
    const full = await succeed(posthorn.call('GET', `/api/v1/events/${id}`, undefined, asOperator(anna)));
    expect(full).toMatchObject({ delivery_count: 2, metadata: { cost: 3 }, ordering_key: 'k' });
    const { text, body } = await askAs(anna, 'GET', `/api/v1/events/${id}`, undefined, 'read');
    expect(body).toMatchObject({ delivery_count: 1, data: { n: 1 }, metadata: null, ordering_key: null });
    expect(body.deliveries.map((row: { webhook_id: string }) => row.webhook_id)).toEqual([mine.id]);
    expect(text).not.toContain(theirs.id);
  });

  test('the same Idempotency-Key of two owners is two requests, of one owner the same', async () => {
    const body = webhookFields({ events: ['once.only'] });
    const create = async (place: Place) =>
      withToken(await makeToken(place), 'POST', '/api/v1/webhooks', body, { 'idempotency-key': 'one' });
    const bert = { ...anna, owner: 'bert' };
    const [first, other, again] = [await create(anna), await create(bert), await create(anna)];
    expect([first.body.owner, other.body.owner]).toEqual(['anna', 'bert']);
    expect(other.body.secret).not.toBe(first.body.secret);
    expect(again.body).toEqual(first.body);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    // The tenant's own keys are others again.
    const tenant = await posthorn.call('POST', '/api/v1/webhooks', body, {
      ...asOperator(anna),
      'idempotency-key': 'one',
    });
    expect(tenant.body.owner).toBe(null);
  });

  test('a test of a webhook is an own event', async () => {
    const token = await makeToken(anna);
    const webhook = await succeed(withToken(token, 'POST', '/api/v1/webhooks', webhookFields()));
    const attempt = await succeed(withToken(token, 'POST', `/api/v1/webhooks/${webhook.id}/test`, {}));
    expect((await withToken(token, 'GET', `/api/v1/events/${attempt.event_id}`)).body.is_test).toBe(true);
    expect((await askAs({ ...anna, owner: 'bert' }, 'GET', `/api/v1/events/${attempt.event_id}`)).status).toBe(404);
  });
});
