import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';

let posthorn: TestPosthorn;
let receiver: Receiver;
beforeAll(async () => {
  [posthorn, receiver] = await Promise.all([startTestPosthorn(), startReceiver()]);
});
afterAll(() => Promise.all([posthorn.stop(), receiver.stop()]));

type Call = (method: string, path: string, body?: unknown) => Promise<Answer>;
const inside =
  (environment: string): Call =>
  (method, path, body) =>
    posthorn.call(method, `/api/v1${path}`, body, { 'x-environment': environment });

test('of the environments of one tenant none sees, sends or changes what another has', async () => {
  const [staging, production] = [inside('staging'), inside('production')];
  const fields = { name: 'W', events: ['*'], batching: { enabled: true, max_wait_ms: 0 } };
  const own = await staging('POST', '/webhooks', { ...fields, url: `${receiver.url}/staging` });
  const other = await production('POST', '/webhooks', { ...fields, url: `${receiver.url}/production` });
  await staging('POST', '/event-types', { name: 'staging.only', sample: { from: 'staging' } });
  // The same id names an event of its own in each.
  const publish = { event_type: 'staging.only', data: { from: 'staging' }, event_id: 'one' };
  expect((await staging('POST', '/events', publish)).body.deliveries).toBe(1);
  const twin = { event_type: 'order.paid', data: { from: 'production' }, event_id: 'one' };
  expect((await production('POST', '/events', twin)).body).toMatchObject({ deliveries: 1, duplicate: false });
  await receiver.received(2);
  for (const { path, body } of receiver.requests) {
    expect([path, JSON.parse(body.toString())]).toMatchObject([path, [{ data: { from: path.slice(1) } }]]);
  }
  const delivery = await eventually(
    async () => (await staging('GET', '/deliveries')).body.data,
    (rows) => rows.length === 1 && rows[0].status === 'delivered',
  );

  const theirs = [
    `/webhooks/${own.body.id}`,
    `/webhooks/${own.body.id}/secret`,
    `/webhooks/${own.body.id}/deliveries`,
    `/events/${delivery[0].event_id}`,
    `/deliveries/${delivery[0].id}`,
    '/event-types/staging.only',
  ];
  for (const path of theirs) {
    expect((await staging('GET', path)).status, path).toBe(200);
    expect((await production('GET', path)).status, path).toBe(404);
  }
  for (const [method, path, body] of [
    ['PATCH', `/webhooks/${own.body.id}`, { name: 'Taken' }],
    ['DELETE', `/webhooks/${own.body.id}`, undefined],
    ['POST', `/webhooks/${own.body.id}/test`, {}],
    ['POST', `/webhooks/${own.body.id}/secret/rotate`, {}],
    ['POST', `/deliveries/${delivery[0].id}/retry`, undefined],
    ['POST', `/events/${delivery[0].event_id}/replay`, {}],
    ['DELETE', `/events/${delivery[0].event_id}/payload`, undefined],
  ] as const) {
    expect((await production(method, path, body)).status, `${method} ${path}`).toBe(404);
  }
  for (const list of ['/webhooks', '/events', '/deliveries']) {
    const [here, there] = await Promise.all([staging('GET', list), production('GET', list)]);
    const ids = (answer: Answer) => answer.body.data.map((each: { id: string }) => each.id);
    expect([ids(here).length, ids(there).length], list).toEqual([1, 1]);
    expect(ids(here)).not.toEqual(ids(there));
  }
  // Keys are of one environment, whatever header they come with.
  const key = await staging('POST', '/api-keys', { name: 'K', role: 'developer' });
  const headers = { authorization: `Bearer ${key.body.key}`, 'x-environment': 'production' };
  expect((await posthorn.call('GET', `/api/v1/webhooks/${other.body.id}`, undefined, headers)).status).not.toBe(200);
  expect(receiver.requests).toHaveLength(2);
});

test.each([
  ['/webhooks', { name: 'W', url: 'http://127.0.0.1:9999/', events: ['*'] }],
  ['/templates', { name: 'T', template: '{{ data }}' }],
  ['/event-types', { name: 'order.paid' }],
  ['/api-keys', { name: 'K', role: 'viewer' }],
  ['/alerts/rules', { name: 'R', metric: 'dead_letters', threshold: 1, period: '1h', action: 'alert_operations_team' }],
  ['/replays', { since: '2026-01-01T00:00:00Z', until: '2026-01-02T00:00:00Z' }],
  ['/erasures', { path: 'email', value: 'eve@example.com' }],
])('what is made at %s while its environment is being deleted is refused, and no fault', async (path, body) => {
  const environment = `gone${path.replaceAll(/[^a-z]/g, '-')}`;
  await posthorn.call('POST', '/api/v1/tenants/default/environments', { name: environment });
  const [deleting, watching] = [1, 2].map(() => new pg.Client(posthorn.database.connection));
  await Promise.all([deleting?.connect(), watching?.connect()]);
  try {
    await deleting?.query('BEGIN');
    await deleting?.query('DELETE FROM environments WHERE name = $1', [environment]);
    const answer = inside(environment)('POST', path, body);
    await eventually(
      async () => (await watching?.query('SELECT FROM pg_locks WHERE NOT granted'))?.rowCount ?? 0,
      (waiting) => waiting > 0,
    );
    await deleting?.query('COMMIT');
    expect((await answer).status).toSatisfy((status: number) => [404, 409, 422].includes(status));
  } finally {
    await Promise.all([deleting?.end(), watching?.end()]);
  }
});
