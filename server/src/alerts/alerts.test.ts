import { createHmac } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createIdSource, parseId } from '../kernel/ids.ts';
import { openStream } from '../live/stream-fixture.ts';
import { eventually } from '../testing/eventually.ts';
import { OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../testing/posthorn.ts';
import { type Receiver, startReceiver } from '../testing/receiver.ts';

/** As call-center.md prints them. */
const PRINTED = `{
  "delivery_failure_rate": {
    "threshold": 10,
    "period": "5m",
    "action": "alert_operations_team"
  },
  "response_time_degradation": {
    "threshold": 5000,
    "period": "1m",
    "action": "alert_endpoint_owner"
  },
  "queue_backlog": {
    "threshold": 1000,
    "period": "1m",
    "action": "scale_processing_capacity"
  }
}`;

let posthorn: TestPosthorn;
let receiver: Receiver;
let database: pg.Client;
const newId = createIdSource();

beforeAll(async () => {
  posthorn = await startTestPosthorn({ maxInFlight: 8 });
  receiver = await startReceiver();
  receiver.onRequest = (request) => request.respond(request.path.startsWith('/bad') ? 500 : 200);
  database = new pg.Client(posthorn.database.connection);
  await database.connect();
});
afterAll(async () => {
  await database.end();
  await receiver.stop();
  await posthorn.stop();
});
afterEach(async () => {
  for (const path of ['alerts/rules', 'webhooks']) {
    for (const { id } of (await posthorn.call('GET', `/api/v1/${path}?limit=250`)).body.data) {
      await posthorn.call('DELETE', `/api/v1/${path}/${id}`);
    }
  }
  await database.query('DELETE FROM alert_incidents');
  await forgetCounts();
  receiver.requests.length = 0;
});

/** As if what was counted were long ago. */
async function forgetCounts(): Promise<void> {
  for (const table of ['webhook_tallies', 'rollup_parts', 'rollups_minute', 'rollups_hour', 'rollups_day']) {
    await database.query(`DELETE FROM ${table}`);
  }
}

async function succeed(method: string, path: string, body?: unknown, headers?: Record<string, string>) {
  const answer = await posthorn.call(method, path, body, headers);
  expect(answer.status, `${method} ${path}: ${answer.text}`).toBeLessThan(300);
  return answer.body;
}
const RULE = { metric: 'dead_letters', threshold: 1, period: '1m', action: 'alert_operations_team' };
const rule = (fields: object = {}) => succeed('POST', '/api/v1/alerts/rules', { ...RULE, ...fields });
const webhook = (fields: object = {}) =>
  succeed('POST', '/api/v1/webhooks', { name: 'W', url: receiver.url, events: ['order.*'], ...fields });
const dying = (fields: object = {}) =>
  webhook({ url: `${receiver.url}/bad`, retry_policy: { max_attempts: 1 }, ...fields });
const publish = (type = 'order.paid') => succeed('POST', '/api/v1/events', { event_type: type, data: { secret: 1 } });
const incidents = async (query = '') => (await succeed('GET', `/api/v1/alerts/incidents${query}`)).data;
/** Whatever is due is looked at again at once. */
const lookNow = () => database.query('UPDATE alert_rules SET next_evaluation_at = now()');
/** Has the rules looked at until it is so: the first look at one may come before what it watches for has happened. */
const become = (query: string, accept: (found: Awaited<ReturnType<typeof incidents>>) => boolean) =>
  eventually(async () => {
    await lookNow();
    return incidents(query);
  }, accept);
const fires = (count = 1, query = '') => become(query, (found) => found.length >= count);
/** Resolves when the rule was looked at, from now on. */
async function looked(id: string): Promise<void> {
  const at = async () => (await succeed('GET', `/api/v1/alerts/rules/${id}`)).evaluated_at ?? '';
  // One that is under way may have begun before; the next one has not.
  for (let looks = 0; looks < 2; looks += 1) {
    const before = await at();
    await lookNow();
    await eventually(at, (time) => time > before);
  }
}
const told = (path: string, type: string) =>
  eventually(
    async () =>
      receiver.requests
        .filter((request) => request.path === path)
        .map((request) => JSON.parse(request.body.toString()))
        .filter((body) => body.type === type),
    (found) => found.length > 0,
  );
const metric = async (name: string) =>
  Number(new RegExp(`^${name} (\\S+)$`, 'm').exec((await posthorn.call('GET', '/metrics')).text)?.[1]);

describe('rules', () => {
  test('are taken as call-center.md prints them, and again', async () => {
    const { data } = await succeed('POST', '/api/v1/alerts/rules', PRINTED, { 'content-type': 'application/json' });
    const shown = data.map((each: Record<string, unknown>) => ({ ...each, id: 0, created_at: 0, updated_at: 0 }));
    const common = { id: 0, created_at: 0, updated_at: 0, evaluated_at: null, is_active: true, webhook_id: null };
    expect(shown).toEqual([
      {
        ...common,
        ...{ name: 'delivery_failure_rate', metric: 'delivery_failure_rate', threshold: 10, resolve_threshold: 9 },
        ...{ period: '5m', for: '0s', minimum_samples: 10, action: 'alert_operations_team', scope: 'environment' },
      },
      {
        ...common,
        ...{ name: 'response_time_degradation', metric: 'response_time_p95', threshold: 5000, resolve_threshold: 4500 },
        ...{ period: '1m', for: '0s', minimum_samples: 10, action: 'alert_endpoint_owner', scope: 'webhook' },
      },
      {
        ...common,
        ...{ name: 'queue_backlog', metric: 'queue_backlog', threshold: 1000, resolve_threshold: 900 },
        ...{ period: '1m', for: '1m', minimum_samples: 0, action: 'scale_processing_capacity', scope: 'environment' },
      },
    ]);
    const again = await succeed('POST', '/api/v1/alerts/rules', PRINTED, { 'content-type': 'application/json' });
    expect(again.data.map(({ id }: { id: string }) => id)).toEqual(data.map(({ id }: { id: string }) => id));
    expect((await succeed('GET', '/api/v1/alerts/rules')).data).toHaveLength(3);
  });

  test('are read, changed and deleted', async () => {
    const made = await rule({ name: 'Dead' });
    expect(made.id).toMatch(/^alr_/);
    const path = `/api/v1/alerts/rules/${made.id}`;
    const changed = await succeed('PATCH', path, { threshold: 5, resolve_threshold: 2, for: 60 });
    expect(changed).toMatchObject({ name: 'Dead', threshold: 5, resolve_threshold: 2, for: '1m', period: '1m' });
    expect(await succeed('PUT', path, { resolve_threshold: null, for: null })).toMatchObject({
      ...{ threshold: 5, resolve_threshold: 4.5, for: '0s' },
    });
    expect(await succeed('GET', path)).toMatchObject({ threshold: 5 });
    expect((await posthorn.call('POST', '/api/v1/alerts/rules', { ...RULE, name: 'Dead' })).body.error.code).toBe(
      'name_taken',
    );
    expect((await posthorn.call('DELETE', path)).status).toBe(204);
    expect((await posthorn.call('GET', path)).status).toBe(404);
  });

  test.each([
    [{}, 422],
    [{ ...RULE, threshold: 0 }, 422],
    [{ ...RULE, threshold: -1 }, 422],
    [{ ...RULE, threshold: 1e300 }, 422],
    [{ ...RULE, metric: 'delivery_failure_rate', threshold: 101 }, 422],
    [{ ...RULE, metric: 'nothing' }, 422],
    [{ ...RULE, metric: 'constructor' }, 422],
    [{ ...RULE, period: '9s' }, 422],
    [{ ...RULE, period: '2d' }, 422],
    [{ ...RULE, period: 'soon' }, 422],
    [{ ...RULE, for: '2d' }, 422],
    [{ ...RULE, action: 'call_me' }, 422],
    [{ ...RULE, action: 'whk_01h455vb4pex5vsknk084sn02q' }, 422],
    [{ ...RULE, webhook_id: 'whk_01h455vb4pex5vsknk084sn02q' }, 422],
    [{ ...RULE, webhook_id: 'nothing' }, 422],
    [{ ...RULE, resolve_threshold: 2 }, 422],
    [{ ...RULE, action: 'alert_endpoint_owner', scope: 'environment' }, 422],
    [{ ...RULE, thresold: 1 }, 422],
    [{ queue_backlog: { threshold: 1, period: '1m' } }, 422],
    [{ queue_backlogs: { threshold: 1, period: '1m', action: 'alert_operations_team' } }, 422],
    [{ queue_backlog: { threshold: '1', period: '1m', action: 'alert_operations_team' } }, 422],
    [[], 422],
  ])('%j is refused', async (body, status) => {
    const answer = await posthorn.call('POST', '/api/v1/alerts/rules', body);
    expect([answer.status, answer.body.error?.details?.fields?.length > 0]).toEqual([status, true]);
    expect((await succeed('GET', '/api/v1/alerts/rules')).data).toEqual([]);
  });

  test('with a name that none may have are refused, also where the names are those of members', async () => {
    for (const name of ['', 'a\0b', 'line\nbreak', 'a'.repeat(101)]) {
      const many = await posthorn.call('POST', '/api/v1/alerts/rules', { ok: RULE, [name]: RULE });
      expect([many.status, many.body.error.code], name).toEqual([422, 'validation_failed']);
      expect((await posthorn.call('POST', '/api/v1/alerts/rules', { ...RULE, name })).status, name).toBe(422);
    }
    expect((await succeed('GET', '/api/v1/alerts/rules')).data).toEqual([]);
    const odd = ['__proto__', 'constructor', 'toString', 'é'.repeat(100)];
    const text = `{${odd.map((name) => `${JSON.stringify(name)}:${JSON.stringify(RULE)}`).join()}}`;
    const { data } = await succeed('POST', '/api/v1/alerts/rules', text, { 'content-type': 'application/json' });
    expect(data.map(({ name }: { name: string }) => name)).toEqual(odd);
  });

  test('that are given names at the same time get them, or are told that they are taken', async () => {
    const ids: string[] = [];
    for (let at = 0; at < 8; at += 1) ids.push((await rule({ name: `rule ${at}` })).id);
    const rename = async (id: string, name: string) =>
      (await posthorn.call('PATCH', `/api/v1/alerts/rules/${id}`, { name })).status;
    const same = await Promise.all(ids.map((id) => rename(id, 'same')));
    expect(same.toSorted()).toEqual([200, ...Array(7).fill(409)]);
    // Each wants what the other has.
    for (let turn = 0; turn < 5; turn += 1) {
      const { data } = await succeed('GET', '/api/v1/alerts/rules');
      const [one, other] = data;
      expect(await Promise.all([rename(one.id, other.name), rename(other.id, one.name)])).toEqual([409, 409]);
    }
  });

  test('about the capacity of the platform need more than a developer', async () => {
    const { key } = await succeed('POST', '/api/v1/api-keys', { name: 'K', role: 'developer' });
    const as = { authorization: `Bearer ${key}` };
    const scales = { ...RULE, action: 'scale_processing_capacity' };
    expect((await posthorn.call('POST', '/api/v1/alerts/rules', scales, as)).status).toBe(403);
    const own = await succeed('POST', '/api/v1/alerts/rules', RULE, as);
    const change = { action: scales.action };
    expect((await posthorn.call('PATCH', `/api/v1/alerts/rules/${own.id}`, change, as)).status).toBe(403);
  });

  test.each([['10s'], ['1d'], [10], [86_400]])('have a period of 10 seconds to a day: %s', async (period) => {
    const made = await rule({ period, name: `Every ${period}` });
    expect(made.period).toBe(typeof period === 'string' ? period : period === 10 ? '10s' : '1d');
    for (const beyond of [9, 86_401, 0, -10, 1.5, '0s', '86401s', '1w', '']) {
      const answer = await posthorn.call('PATCH', `/api/v1/alerts/rules/${made.id}`, { period: beyond });
      expect([beyond, answer.status]).toEqual([beyond, 422]);
    }
  });

  test("another tenant's and environment's rules and incidents are answered as none", async () => {
    const slug = `t-${newId().slice(24)}`;
    await succeed('POST', '/api/v1/tenants', { slug, name: slug });
    const made = await rule();
    await dying();
    await publish();
    const [{ id }] = await fires();
    const paths = [
      ['GET', `rules/${made.id}`],
      ['PATCH', `rules/${made.id}`],
      ['DELETE', `rules/${made.id}`],
      ['GET', `incidents/${id}`],
      ['POST', `incidents/${id}/acknowledge`],
      ['POST', `incidents/${id}/resolve`],
    ] as const;
    const plain = ({ status, body }: { status: number; body: { error: object } }) => [
      status,
      { ...body.error, request_id: '' },
    ];
    const strangers: Record<string, string>[] = [{ 'x-tenant-id': slug }, { 'x-environment': 'staging' }];
    for (const headers of strangers) {
      for (const [method, path] of paths) {
        const body = method === 'PATCH' ? { threshold: 9 } : undefined;
        const theirs = await posthorn.call(method, `/api/v1/alerts/${path}`, body, headers);
        const nobodys = path.replace(/_[0-9a-z]{26}/, '_01h455vb4pex5vsknk084sn02q');
        const none = await posthorn.call(method, `/api/v1/alerts/${nobodys}`, body);
        expect([path, ...plain(theirs)]).toEqual([path, ...plain(none)]);
        expect(theirs.status).toBe(404);
      }
      for (const list of ['rules', 'incidents', `incidents?rule_id=${made.id}`]) {
        const listed = await posthorn.call(
          'GET',
          `/api/v1/alerts/${list}`,
          undefined,
          headers as Record<string, string>,
        );
        expect(listed.body.data).toEqual([]);
      }
    }
    expect((await incidents())[0].status).toBe('firing');
  });

  test("of another tenant's webhook are refused as of none", async () => {
    const slug = `t-${newId().slice(24)}`;
    await succeed('POST', '/api/v1/tenants', { slug, name: slug });
    const theirs = await webhook();
    for (const field of ['webhook_id', 'action']) {
      const body = { ...RULE, [field]: theirs.id };
      const answer = await posthorn.call('POST', '/api/v1/alerts/rules', body, { 'x-tenant-id': slug });
      expect(answer.status).toBe(422);
      expect(answer.body.error.details.fields[0].path).toBe(field);
    }
  });
});

describe('an incident', () => {
  test('is fired once, told of to those without an owner, shown in the stream, and resolved', async () => {
    const team = await webhook({ url: `${receiver.url}/team`, events: ['alert.*'] });
    await webhook({ url: `${receiver.url}/all`, events: ['*'] });
    await webhook({ url: `${receiver.url}/ann`, events: ['alert.fired'], owner: 'ann' });
    const stream = await openStream(`${posthorn.url}/api/v1/stream?types=alert`, {
      authorization: `Bearer ${OPERATOR_KEY}`,
    });
    const { id } = await rule({ name: 'Dead letters' });
    await dying();
    await publish();
    const [incident] = await fires();
    expect(incident).toMatchObject({
      ...{ id: expect.stringMatching(/^inc_/), rule_id: id, rule_name: 'Dead letters', metric: 'dead_letters' },
      ...{ threshold: 1, period: '1m', action: 'alert_operations_team', webhook_id: null, status: 'firing', value: 1 },
      ...{ acknowledged_at: null, resolved_at: null, resolution: null, capacity_raised_until: null },
    });
    const [fired] = await told('/team', 'alert.fired');
    expect(fired.data).toEqual({
      ...{ incident_id: incident.id, rule_id: id, rule_name: 'Dead letters', metric: 'dead_letters', threshold: 1 },
      ...{ period: '1m', action: 'alert_operations_team', webhook_id: null, value: 1, fired_at: incident.fired_at },
    });
    const { secret } = await succeed('GET', `/api/v1/webhooks/${team.id}/secret`);
    const request = receiver.requests.find(({ path }) => path === '/team');
    const signed = `${request?.headers['webhook-id']}.${request?.headers['webhook-timestamp']}.${request?.body}`;
    const mac = createHmac('sha256', Buffer.from(secret.slice('whsec_'.length), 'base64'))
      .update(signed)
      .digest('base64');
    expect(request?.headers['webhook-signature']).toBe(`v1,${mac}`);

    // More of the same is the same incident.
    await publish();
    await become('', ([each]) => each.last_value === 2);
    expect(await incidents()).toHaveLength(1);
    // Time passes: what was counted is of long ago.
    await forgetCounts();
    await lookNow();
    await eventually(
      async () => (await database.query('SELECT clear_since FROM alert_states')).rows[0]?.clear_since,
      (since) => since instanceof Date,
    );
    expect((await incidents())[0].status).toBe('firing');
    await database.query(`UPDATE alert_states SET clear_since = clear_since - interval '1 minute'`);
    await lookNow();
    const [over] = await told('/team', 'alert.resolved');
    expect(over.data).toMatchObject({ incident_id: incident.id, worst_value: 2, resolution: 'recovered' });
    expect((await incidents())[0]).toMatchObject({ status: 'resolved', resolution: 'recovered' });
    const shown = () => stream.of('alert').filter(({ data }) => data.incident_id === incident.id);
    await eventually(
      async () => shown().length,
      (count) => count === 2,
    );
    expect(shown().map(({ type }) => type)).toEqual(['alert.fired', 'alert.resolved']);
    stream.close();
    expect(receiver.requests.filter(({ path }) => path === '/team')).toHaveLength(2);
    const paths = new Set(receiver.requests.map(({ path }) => path));
    expect(paths.has('/ann')).toBe(false);
    expect(receiver.requests.filter(({ path, body }) => path === '/all' && String(body).includes('alert.'))).toEqual(
      [],
    );
  });

  test("of an owner's webhook is told to this owner's webhooks, and to those without one", async () => {
    for (const [name, owner] of [
      ['ann', 'ann'],
      ['bob', 'bob'],
      ['team', null],
    ]) {
      await webhook({ url: `${receiver.url}/${name}`, events: ['alert.fired'], owner });
    }
    const failing = await dying({ owner: 'ann' });
    const well = await webhook({ owner: 'bob' });
    await rule({ action: 'alert_endpoint_owner' });
    await publish();
    const [incident, ...others] = await fires();
    expect([incident.webhook_id, others]).toEqual([failing.id, []]);
    expect((await told('/ann', 'alert.fired'))[0].data.webhook_id).toBe(failing.id);
    await told('/team', 'alert.fired');
    expect(receiver.requests.some(({ path }) => path === '/bob')).toBe(false);
    expect(await incidents(`?webhook_id=${well.id}`)).toEqual([]);
    const { token } = await succeed('POST', '/api/v1/portal-tokens', { access: 'read', owner: 'bob' });
    expect(
      (await posthorn.call('GET', '/api/v1/alerts/incidents', undefined, { authorization: `Bearer ${token}` })).status,
    ).toBe(403);
    // The webhook goes, and with it what is wrong with it.
    await succeed('DELETE', `/api/v1/webhooks/${failing.id}`);
    await become('', ([each]) => each.resolution === 'webhook_deleted');
  });

  test('can be told to one webhook, whatever it is subscribed to', async () => {
    const pager = await webhook({ url: `${receiver.url}/pager`, events: ['nothing.else'], owner: 'carl' });
    await webhook({ url: `${receiver.url}/team`, events: ['alert.*'] });
    const made = await rule({ action: pager.id });
    expect(made.action).toBe(pager.id);
    await dying();
    await publish();
    await fires();
    await told('/pager', 'alert.fired');
    expect(receiver.requests.some(({ path }) => path === '/team')).toBe(false);
  });

  test('is acknowledged and resolved by people, and fires again only after a period', async () => {
    const made = await rule({ period: '1h' });
    await looked(made.id);
    await dying();
    await publish();
    const [{ id }] = await fires();
    const acknowledged = await succeed('POST', `/api/v1/alerts/incidents/${id}/acknowledge`);
    expect(acknowledged).toMatchObject({ status: 'acknowledged', acknowledged_by: 'operator' });
    expect(await succeed('POST', `/api/v1/alerts/incidents/${id}/acknowledge`)).toEqual(acknowledged);
    expect(await incidents('?status=open')).toHaveLength(1);
    const resolved = await succeed('POST', `/api/v1/alerts/incidents/${id}/resolve`);
    expect(resolved).toMatchObject({ status: 'resolved', resolution: 'by_hand' });
    expect(await succeed('POST', `/api/v1/alerts/incidents/${id}/resolve`)).toEqual(resolved);
    const late = await posthorn.call('POST', `/api/v1/alerts/incidents/${id}/acknowledge`);
    expect([late.status, late.body.error.code]).toEqual([409, 'incident_resolved']);
    await looked(made.id);
    expect(await incidents()).toHaveLength(1);
    await database.query(`UPDATE alert_states SET breaching_since = now() - interval '1 second'`);
    await lookNow();
    await fires(2);
  });

  test('of an environment counts nothing of another one', async () => {
    const staging = { 'x-environment': 'staging' };
    const made = await rule();
    await succeed('POST', '/api/v1/alerts/rules', RULE, staging);
    const body = { name: 'W', url: `${receiver.url}/bad`, events: ['order.*'], retry_policy: { max_attempts: 1 } };
    const { id } = await succeed('POST', '/api/v1/webhooks', body, staging);
    await succeed('POST', '/api/v1/events', { event_type: 'order.paid', data: {} }, staging);
    await eventually(
      async () => {
        await lookNow();
        return (await succeed('GET', '/api/v1/alerts/incidents', undefined, staging)).data;
      },
      (found) => found.length === 1,
    );
    await looked(made.id);
    expect(await incidents()).toEqual([]);
    await succeed('DELETE', `/api/v1/webhooks/${id}`, undefined, staging);
    for (const each of (await succeed('GET', '/api/v1/alerts/rules', undefined, staging)).data) {
      await succeed('DELETE', `/api/v1/alerts/rules/${each.id}`, undefined, staging);
    }
  });

  test('is not fired by a rate of nothing', async () => {
    await webhook();
    for (const each of ['delivery_failure_rate', 'response_time', 'response_time_p95']) {
      for (const scope of ['environment', 'webhook']) {
        const rate = { metric: each, threshold: 0.001, minimum_samples: 1, scope };
        await looked((await rule({ ...rate, name: `${each} ${scope}` })).id);
      }
    }
    expect(await incidents()).toEqual([]);
    expect((await database.query('SELECT FROM alert_states')).rowCount).toBe(0);
  });

  test('does not live on its own deliveries, when whom it tells takes nothing', async () => {
    const pager = await dying({ url: `${receiver.url}/bad/pager`, events: ['nothing.else'] });
    const deaf = await rule({ name: 'Dead', action: pager.id });
    const rates = [
      await rule({ name: 'Rate', metric: 'delivery_failure_rate', threshold: 1, minimum_samples: 2 }),
      await rule({ name: 'Of each', scope: 'webhook', webhook_id: pager.id }),
    ];
    await dying();
    await publish();
    await fires();
    const dead = (type: string) =>
      eventually(
        async () => (await succeed('GET', `/api/v1/dead-letters?event_type=${type}`)).data,
        (found) => found.length === 1,
      );
    await dead('alert.fired');
    for (const { id } of [deaf, ...rates]) await looked(id);
    const found = await incidents();
    expect(found.map((each: Record<string, unknown>) => [each.rule_name, each.worst_value])).toEqual([['Dead', 1]]);
    // What died is of long ago, but for the news of it.
    await succeed('POST', `/api/v1/alerts/incidents/${found[0].id}/resolve`);
    await dead('alert.resolved');
    await database.query(
      `DELETE FROM webhook_tallies; DELETE FROM rollup_parts; DELETE FROM rollups_minute; DELETE FROM alert_states`,
    );
    await looked(deaf.id);
    expect(await incidents()).toHaveLength(1);
    for (const type of ['alert.fired', 'alert.resolved']) await dead(type);
  });

  test('goes on by what its changed rule says, and is resolved when that watches something else', async () => {
    const made = await rule({ name: 'Dead' });
    await dying();
    await publish();
    await fires();
    await succeed('PATCH', `/api/v1/alerts/rules/${made.id}`, { name: 'Renamed', threshold: 5 });
    await looked(made.id);
    // What it said when it fired stays in the incident; by the new threshold it is well since now.
    expect((await incidents())[0]).toMatchObject({ rule_name: 'Dead', threshold: 1, status: 'firing' });
    expect((await database.query('SELECT clear_since FROM alert_states')).rows[0].clear_since).toBeInstanceOf(Date);
    await succeed('PATCH', `/api/v1/alerts/rules/${made.id}`, { metric: 'circuit_open' });
    expect((await incidents())[0]).toMatchObject({ status: 'resolved', resolution: 'rule_changed' });
    expect((await database.query('SELECT FROM alert_states')).rowCount).toBe(0);
  });

  test('is resolved when its rule is switched off or deleted, and stays to be read', async () => {
    const [one, two] = [await rule({ name: 'One' }), await rule({ name: 'Two' })];
    await dying();
    await publish();
    await fires(2);
    await succeed('PATCH', `/api/v1/alerts/rules/${one.id}`, { is_active: false });
    await succeed('DELETE', `/api/v1/alerts/rules/${two.id}`);
    const resolutions = Object.fromEntries(
      (await incidents()).map((each: { rule_name: string; resolution: string }) => [each.rule_name, each.resolution]),
    );
    expect(resolutions).toEqual({ One: 'rule_changed', Two: 'rule_deleted' });
  });

  test('is told of by another node, or a later start, when the one that fired it is killed', async () => {
    await webhook({ url: `${receiver.url}/team`, events: ['alert.*'] });
    const made = await rule({ is_active: false });
    await database.query(
      `INSERT INTO alert_incidents (tenant_id, environment_id, id, rule_id, rule_name, metric, threshold,
         period_seconds, action, status, value, worst_value, last_value, fired_at, announce_at)
       SELECT tenant_id, environment_id, $2, id, name, metric, threshold, period_seconds, action, 'firing', 3, 3, 3,
         now() - interval '1 minute', now() - interval '1 second' FROM alert_rules WHERE id = $1`,
      [parseId('alertRule', made.id), newId()],
    );
    const [fired] = await told('/team', 'alert.fired');
    expect(fired.data.value).toBe(3);
  });
});

test('a rule that cannot be looked at keeps no other one from being looked at', async () => {
  await database.query(`
    CREATE FUNCTION refuse_alert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused by the test'; END $$;
    CREATE TRIGGER refuse_alert BEFORE INSERT ON alert_incidents FOR EACH ROW WHEN (NEW.rule_name = 'Broken')
      EXECUTE FUNCTION refuse_alert()`);
  // What the two watch for has happened before either is looked at.
  await rule({ name: 'First' });
  await dying();
  await publish();
  await fires();
  await rule({ name: 'Broken' });
  await database.query(`UPDATE alert_rules SET next_evaluation_at = now() - interval '1 hour' WHERE name = 'Broken'`);
  await rule({ name: 'Sound' });
  // The broken one is the first in line, once: it would be so again with each further look that is asked for.
  const found = await eventually(
    () => incidents(),
    (all) => all.length === 2,
  );
  expect(found.map((each: { rule_name: string }) => each.rule_name).sort()).toEqual(['First', 'Sound']);
  // It is not forgotten either.
  await database.query('DROP TRIGGER refuse_alert ON alert_incidents');
  await fires(3);
});

describe('each metric', () => {
  test('delivery_failure_rate and response times are those of the period', async () => {
    const { id: webhook_id } = await dying();
    await rule({ name: 'rate', metric: 'delivery_failure_rate', threshold: 50, minimum_samples: 3, webhook_id });
    await rule({ name: 'p95', metric: 'response_time_p95', threshold: 50, minimum_samples: 1, webhook_id });
    await rule({ name: 'average', metric: 'response_time', threshold: 100_000, minimum_samples: 1, webhook_id });
    receiver.onRequest = (request) => void setTimeout(() => request.respond(500), 80);
    for (let count = 0; count < 3; count += 1) await publish();
    await eventually(
      async () => {
        await lookNow();
        return (await incidents()).map((each: { rule_name: string }) => each.rule_name).sort();
      },
      (names) => names.length >= 2,
    );
    receiver.onRequest = (request) => request.respond(request.path.startsWith('/bad') ? 500 : 200);
    const found = Object.fromEntries((await incidents()).map((each: { rule_name: string }) => [each.rule_name, each]));
    expect(Object.keys(found).sort()).toEqual(['p95', 'rate']);
    expect(found.rate.value).toBe(100);
    expect(found.p95.value).toBeGreaterThanOrEqual(70);
  });

  test('webhook_disabled and circuit_open count what Posthorn has disabled and closed off', async () => {
    await rule({ name: 'disabled', metric: 'webhook_disabled', for: 0 });
    await rule({ name: 'circuits', metric: 'circuit_open', for: 0, action: 'alert_endpoint_owner' });
    const gone = await webhook({ url: `${receiver.url}/gone` });
    const byHand = await webhook();
    await succeed('PATCH', `/api/v1/webhooks/${byHand.id}`, { status: 'disabled' });
    await database.query(
      `INSERT INTO circuits SELECT tenant_id, environment_id, id, 'open', now(), now() + interval '1 hour', 'failure_rate'
       FROM webhooks WHERE id = $1`,
      [parseId('webhook', gone.id)],
    );
    const [circuit] = await fires();
    expect(circuit).toMatchObject({ rule_name: 'circuits', webhook_id: gone.id });
    await database.query(`UPDATE webhooks SET status = 'disabled', status_reason = 'gone' WHERE id = $1`, [
      parseId('webhook', gone.id),
    ]);
    await lookNow();
    const [disabled] = await fires(1, '?metric=webhook_disabled');
    expect(disabled).toMatchObject({ value: 1, webhook_id: null });
  });

  test('queue_backlog raises the capacity within its bounds, says so, and falls back afterwards', async () => {
    // It goes on, and would fire again a period after it was resolved by hand.
    await rule({ metric: 'queue_backlog', threshold: 3, for: 0, period: '1h', action: 'scale_processing_capacity' });
    expect([await metric('posthorn_requests_in_flight_max'), await metric('posthorn_capacity_raised')]).toEqual([8, 0]);
    await webhook({ url: `${receiver.url}/bad`, retry_policy: { initial_delay_seconds: 3_600 } });
    for (let count = 0; count < 4; count += 1) await publish();
    const [incident] = await fires();
    const raisedMs = Date.parse(incident.capacity_raised_until) - Date.parse(incident.fired_at);
    expect(raisedMs).toBe(30 * 60_000);
    await eventually(
      () => metric('posthorn_requests_in_flight_max'),
      (max) => max === 16,
    );
    expect(await metric('posthorn_capacity_raised')).toBe(1);
    await succeed('POST', `/api/v1/alerts/incidents/${incident.id}/resolve`);
    await eventually(
      () => metric('posthorn_requests_in_flight_max'),
      (max) => max === 8,
    );
    expect(await metric('posthorn_capacity_raised')).toBe(0);
  });
});
