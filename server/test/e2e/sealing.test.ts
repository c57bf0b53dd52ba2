import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';

const SECRET = 'whsec_c2VjcmV0LXRoYXQtbm9ib2R5LW1heS1zZWUtMDEyMzQ1Njc4OQ==';
const TOKEN = 'token-that-nobody-may-see';

let posthorn: TestPosthorn;
let receiver: Receiver;
let sql: pg.Client;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
  receiver = await startReceiver();
  sql = new pg.Client(posthorn.database.connection);
  await sql.connect();
});
afterAll(async () => {
  await sql.end();
  await receiver.stop();
  await posthorn.stop();
});

const createWebhook = async (tenant: string, fields: object = {}, headers: Record<string, string> = {}) => {
  const body = { name: 'Test', url: receiver.url, events: ['*'], headers: { Authorization: TOKEN }, ...fields };
  const answer = await posthorn.call('POST', '/api/v1/webhooks', body, { 'x-tenant-id': tenant, ...headers });
  expect(answer.status).toBe(201);
  const rows = await sql.query('SELECT tenant_id, id FROM webhooks ORDER BY id DESC LIMIT 1');
  return { ...answer.body, tenant, row: rows.rows[0] };
};
const createTenant = async (slug: string) => {
  expect((await posthorn.call('POST', '/api/v1/tenants', { slug, name: slug })).status).toBe(201);
};
const secretOf = ({ tenant, id }: { tenant: string; id: string }) =>
  posthorn.call('GET', `/api/v1/webhooks/${id}/secret`, undefined, { 'x-tenant-id': tenant });
const shown = ({ tenant, id }: { tenant: string; id: string }) =>
  posthorn.call('GET', `/api/v1/webhooks/${id}`, undefined, { 'x-tenant-id': tenant });

/** Everything that the database holds, bytes in hexadecimal. */
async function dump(): Promise<string> {
  const tables = await sql.query(`SELECT format('%I', relname) AS name FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND NOT relispartition`);
  const texts: string[] = [];
  for (const { name } of tables.rows) {
    for (const { row } of (await sql.query(`SELECT row_to_json(t)::text AS row FROM ${name} t`)).rows) texts.push(row);
  }
  return texts.join('\n');
}

test('nothing that is secret stands in the database in clear, whatever was done with it', async () => {
  const webhook = await createWebhook(
    'default',
    { secret: SECRET, signature: { asymmetric: true }, headers: { Authorization: TOKEN, Cookie: `session=${TOKEN}` } },
    { 'idempotency-key': 'made-once' },
  );
  expect(webhook.secret).toBe(SECRET);
  const rotated = await posthorn.call('POST', `/api/v1/webhooks/${webhook.id}/secret/rotate`, {});
  const key = await posthorn.call(
    'POST',
    '/api/v1/api-keys',
    { name: 'k', role: 'publisher', environment: 'production' },
    { 'idempotency-key': 'key-once' },
  );
  const event = { event_type: 'a.b', data: { n: 1 } };
  expect((await posthorn.call('POST', '/api/v1/events', event)).status).toBe(202);
  await receiver.received(1);
  expect(receiver.requests[0]?.headers.authorization).toBe(TOKEN);
  await posthorn.restart();

  const text = await dump();
  const secrets = [SECRET, TOKEN, key.body.key, rotated.body.secret];
  for (const secret of secrets) {
    expect(secret.length).toBeGreaterThan(20);
    const core = secret.replace(/^whsec_/, '');
    for (const form of [core, Buffer.from(core).toString('hex'), Buffer.from(core, 'base64').toString('hex')]) {
      expect(text.includes(form)).toBe(false);
    }
  }
  // The search finds what is there: the key's hint and the payload.
  expect(text).toContain(key.body.key_hint);
  expect(text).toContain(Buffer.from('{"n":1}').toString('hex'));
});

test('a sealed value opens in no other row, no other column, and for no other tenant', async () => {
  await createTenant('mallory');
  const [victim, sibling, thief] = [
    await createWebhook('default', { secret: SECRET }),
    await createWebhook('default'),
    await createWebhook('mallory'),
  ];
  const copy = (from: { row: { id: string } }, to: { row: { id: string } }) =>
    sql.query(
      `UPDATE webhook_secrets SET secret_box = (SELECT secret_box FROM webhook_secrets WHERE webhook_id = $1)
       WHERE webhook_id = $2`,
      [from.row.id, to.row.id],
    );
  for (const target of [sibling, thief]) {
    await copy(victim, target);
    const answer = await secretOf(target);
    expect([answer.status, answer.body.error.code]).toEqual([500, 'secret_unreadable']);
    expect(answer.text).not.toContain(SECRET);
    await sql.query(
      'UPDATE webhooks SET headers_box = (SELECT headers_box FROM webhooks WHERE id = $1) WHERE id = $2',
      [victim.row.id, target.row.id],
    );
    expect((await shown(target)).body.error.code).toBe('secret_unreadable');
  }
  // Another column: the headers in the secret's place, of the webhook that they belong to.
  await sql.query(
    'UPDATE webhook_secrets SET secret_box = (SELECT headers_box FROM webhooks WHERE id = $1) WHERE webhook_id = $1',
    [victim.row.id],
  );
  expect((await secretOf(victim)).body.error.code).toBe('secret_unreadable');
  expect((await shown(victim)).status).toBe(200);
});

test('a kept answer opens for no other Idempotency-Key and no other tenant', async () => {
  await createTenant('eve');
  const body = { name: 'Kept', url: receiver.url, events: ['*'], secret: SECRET };
  const create = (tenant: string, key: string) =>
    posthorn.call('POST', '/api/v1/webhooks', body, { 'x-tenant-id': tenant, 'idempotency-key': key });
  const first = await create('default', 'first');
  await create('default', 'second');
  await create('eve', 'first');
  expect((await create('default', 'first')).body).toEqual(first.body);
  await sql.query(`UPDATE idempotent_requests SET response_box = (
      SELECT i.response_box FROM idempotent_requests i JOIN tenants t ON t.id = i.tenant_id
      WHERE i.key = 'first' AND t.slug = 'default') WHERE key IN ('first', 'second')`);
  expect((await create('default', 'first')).body).toEqual(first.body);
  for (const [tenant, key] of [
    ['default', 'second'],
    ['eve', 'first'],
  ] as const) {
    const answer = await create(tenant, key);
    expect(answer.status).toBe(500);
    expect(answer.text).not.toContain(SECRET);
  }
});

test('what is sealed with a data key that is not there cannot be stored', async () => {
  const webhook = await createWebhook('default');
  const store = (box: Buffer) => sql.query('UPDATE webhooks SET headers_box = $2 WHERE id = $1', [webhook.row.id, box]);
  const boxOf = (key: number) => Buffer.concat([Buffer.of(2, 0, 0, 0, key), Buffer.alloc(40)]);
  for (const box of [
    boxOf(9),
    boxOf(2),
    Buffer.of(1, 2, 3),
    Buffer.of(2),
    Buffer.of(2, 255, 0, 0, 1),
    Buffer.alloc(0),
  ]) {
    await expect(store(box)).rejects.toMatchObject({ code: 'PH002' });
  }
  await store(boxOf(1));
});
