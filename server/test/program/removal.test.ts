import { afterAll, expect, test } from 'vitest';
import { parseId } from '../../src/kernel/ids.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { makeFolder } from './folder.ts';
import { ENV, startServer } from './server.ts';

const folder = makeFolder();

afterAll(() => folder.remove());

/** Tables with a row in which the text occurs anywhere, also as bytes. */
async function tablesWith(text: string): Promise<string[]> {
  const tables = await folder.query<{ name: string; bytes: string[] | null }>(`
    SELECT c.relname AS name, array_agg(a.attname::text) FILTER (WHERE a.atttypid = 'bytea'::regtype) AS bytes
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace GROUP BY 1`);
  const hex = Buffer.from(text).toString('hex');
  const found: string[] = [];
  for (const { name } of tables) {
    // A row as text has its bytes in hexadecimal.
    const rows = await folder.query(`SELECT FROM ${name} t WHERE position('${text}' IN t::text) > 0
      OR position('${hex}' IN t::text) > 0 LIMIT 1`);
    if (rows.length > 0) found.push(name);
  }
  return found.sort();
}

test('a tenant that is deleted is gone at once, and a killed program goes on removing it until nothing is left', async () => {
  let server = await startServer({ cwd: folder.path, env: ENV });
  const made = await server.call('POST', '/api/v1/tenants', {
    name: 'Gone',
    slug: 'gone',
    settings: { allow_unknown_event_types: true },
  });
  const tenant = { 'x-tenant-id': 'gone' };
  const id = parseId('tenant', made.body.id) as string;
  const key = await server.call('POST', '/api/v1/api-keys', { name: 'k', role: 'admin' }, tenant);
  await server.call(
    'POST',
    '/api/v1/webhooks',
    { name: 'W', url: 'http://127.0.0.1:9/', events: ['*'], is_active: false },
    tenant,
  );
  const event = { event_type: 'order.paid', data: { secret: 'of-the-tenant' }, event_id: 'e-1' };
  expect((await server.call('POST', '/api/v1/events', event, tenant)).status).toBe(202);
  await folder.query(`
    INSERT INTO events (tenant_id, environment_id, id, event_type, occurred_at, data, priority, delivery_count, is_test)
    SELECT e.tenant_id, e.environment_id, uuidv7(), 'a.b', now(), 'of-the-tenant', 0, 1, false
    FROM events e, generate_series(1, 60000) WHERE e.tenant_id = '${id}'`);
  expect(await tablesWith('of-the-tenant')).toContain('events');

  const [kept] = await folder.query<{ rows: string }>(`SELECT (SELECT count(*) FROM events WHERE tenant_id = '${id}')
    + (SELECT count(*) FROM deliveries WHERE tenant_id = '${id}') + (SELECT count(*) FROM event_keys WHERE tenant_id = '${id}')
    + (SELECT count(*) FROM audit_log WHERE tenant_id = '${id}') AS rows`);
  expect(Number(kept?.rows)).toBeGreaterThan(60_000);

  // It cannot come to its end before it is killed.
  const release = await folder.lock(
    `SELECT FROM events WHERE id = (SELECT max(id::text)::uuid FROM events WHERE tenant_id = '${id}')`,
  );
  expect((await server.call('DELETE', '/api/v1/tenants/gone')).status).toBe(204);
  const asTenant = { authorization: `Bearer ${key.body.key}` };
  expect((await server.call('GET', '/api/v1/events', undefined, asTenant)).status).toBe(401);
  expect((await server.call('POST', '/api/v1/events', event, tenant)).status).toBe(404);
  const removed = async () => (await folder.query<{ removed: string }>('SELECT removed FROM removals'))[0]?.removed;
  await eventually(removed, (rows) => Number(rows) > 0);
  await server.end('SIGKILL');
  await release();

  server = await startServer({ cwd: folder.path, env: ENV });
  const before = await folder.query(`SELECT FROM events WHERE tenant_id = '${id}' LIMIT 1`);
  expect(before.length, 'the program was killed too late for this test').toBe(1);
  const listed = await server.call('GET', '/api/v1/removals');
  expect(listed.body.data).toMatchObject([{ tenant_id: made.body.id, environment_id: null }]);
  // Only the note that it is being removed names it then; that goes two minutes after the deletion.
  await eventually(
    () => tablesWith(id),
    (tables) => tables.length === 1 && tables[0] === 'removals',
    30_000,
  );
  expect(await tablesWith('of-the-tenant')).toEqual([]);
  // Each row was counted once: those that the killed one removed, and the rest.
  expect(Number(await removed())).toBe(Number(kept?.rows));
  await server.end('SIGTERM');
}, 90_000);
