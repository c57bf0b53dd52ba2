import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { createIdSource, formatId, parseId } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { eventually } from '../testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../testing/posthorn.ts';

let posthorn: TestPosthorn;
let tenant: string;
let stranger: string;
const keys: Record<string, { id: string; key: string }> = {};
beforeAll(async () => {
  posthorn = await startTestPosthorn();
  const make = async (slug: string) => (await posthorn.call('POST', '/api/v1/tenants', { name: slug, slug })).body.id;
  [tenant, stranger] = [await make('acme'), await make('stranger')];
  const makeKey = async (as: Record<string, string>, role: string) =>
    (await posthorn.call('POST', '/api/v1/api-keys', { name: role, role }, as)).body;
  for (const role of ['owner', 'admin', 'developer', 'viewer'])
    keys[role] = await makeKey({ 'x-tenant-id': tenant }, role);
  keys.staging = await makeKey({ 'x-tenant-id': tenant, 'x-environment': 'staging' }, 'admin');
  keys.strange = await makeKey({ 'x-tenant-id': stranger }, 'owner');
});
afterAll(() => posthorn.stop());

const get = (path: string, as?: string): Promise<Answer> => {
  const headers: Record<string, string> =
    as === undefined ? { 'x-tenant-id': tenant } : { authorization: `Bearer ${keys[as]?.key}` };
  return posthorn.call('GET', `/api/v1/audit${path}`, undefined, headers);
};
const namesOf = ({ body }: Answer) => body.data.map((entry: Answer['body']) => [entry.action, entry.after?.name]);

describe('who sees what', () => {
  test('the operator and owners all of the tenant, admins their environment, others nothing', async () => {
    const all = ['admin', 'viewer', 'developer', 'admin', 'owner'].map((name) => ['api_key.created', name]);
    expect(namesOf(await get(''))).toEqual(all);
    expect(namesOf(await get('', 'owner'))).toEqual(all);
    expect(namesOf(await get('', 'admin'))).toEqual([all[1], all[2], all[3], all[4]]);
    expect(namesOf(await get('', 'staging'))).toEqual([all[0]]);
    for (const role of ['developer', 'viewer']) expect((await get('', role)).status).toBe(403);
    const [ofStaging] = (await get('?limit=1')).body.data;
    expect((await get(`/${ofStaging.id}`, 'owner')).body).toEqual(ofStaging);
    expect((await get(`/${ofStaging.id}`, 'admin')).status).toBe(404);
    expect((await get('/export', 'staging')).text).toBe(`${JSON.stringify(ofStaging)}\n`);
  });

  test('the chain of the platform is the operator’s', async () => {
    expect(namesOf(await get('?chain=platform'))).toEqual([
      ['tenant.created', 'stranger'],
      ['tenant.created', 'acme'],
      ['tenant.created', 'Default'],
    ]);
    const [made] = (await get('?chain=platform&limit=1')).body.data;
    expect(made).toMatchObject({ tenant_id: null, resource_type: 'tenant', resource_id: stranger });
    expect((await get(`/${made.id}?chain=platform`)).body).toEqual(made);
    for (const path of ['', '/export', `/${made.id}`]) {
      expect((await get(`${path}?chain=platform`, 'owner')).status).toBe(403);
    }
  });

  test('an entry of another tenant is not there, nor is one of the platform', async () => {
    const [own] = (await get('?limit=1')).body.data;
    const [platforms] = (await get('?chain=platform&limit=1')).body.data;
    for (const id of [
      own.id,
      platforms.id,
      formatId('audit', createIdSource()()),
      'aud_x',
      '%00',
      formatId('tenant', createIdSource()()),
    ]) {
      const { status, body } = await get(`/${id}`, 'strange');
      expect([status, body.error.message]).toEqual([404, 'No such audit entry.']);
    }
  });
});

describe('filters', () => {
  test('each means what it says, and they go together', async () => {
    const change = (name: string, as: string) =>
      posthorn.call('POST', '/api/v1/event-types', { name }, { authorization: `Bearer ${keys[as]?.key}` });
    await change('first.type', 'owner');
    await change('second.type', 'developer');
    const named = async (query: string) =>
      (await get(query)).body.data.map((entry: Answer['body']) => entry.resource_id);
    const [owner, developer] = [keys.owner?.id, keys.developer?.id];
    expect(await named(`?actor=${owner}`)).toEqual(['first.type']);
    expect(await named(`?actor=${developer}`)).toEqual(['second.type']);
    expect(await named('?resource_type=event_type')).toEqual(['second.type', 'first.type']);
    expect(await named('?resource_id=first.type')).toEqual(['first.type']);
    expect(await named('?action=event_type.created&outcome=success')).toEqual(['second.type', 'first.type']);
    expect(await named(`?action=event_type.created&actor=${owner}`)).toEqual(['first.type']);
    expect(await named('?action=event_type.deleted')).toEqual([]);
    expect(await named('?outcome=denied')).toEqual([]);
    const [second] = (await get('?resource_id=second.type')).body.data;
    expect(await named(`?since=${second.created_at}`)).toEqual(['second.type']);
    expect(await named(`?until=${second.created_at}&limit=1`)).toEqual(['first.type']);
    expect((await get(`/export?actor=${owner}`)).text.split('\n')).toHaveLength(2);
  });

  test.each(['outcome=other', 'since=yesterday', 'since=2016-12-31T23:59:60Z', 'chain=all', 'actor=', 'limit=251'])(
    '%s is refused',
    async (query) => {
      for (const path of query.startsWith('limit') ? [''] : ['', '/export']) {
        expect((await get(`${path}?${query}`)).status).toBe(422);
      }
    },
  );

  test('pages follow each other without a gap', async () => {
    const all = (await get('')).body.data;
    const paged: Answer['body'][] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const { body } = await get(`?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`);
      paged.push(...body.data);
      cursor = body.next_cursor;
    }
    expect(paged).toEqual(all);
    expect((await get('?cursor=nonsense')).status).toBe(400);
  });
});

describe('an export of many', () => {
  const ROWS = 60_000;
  let handle: DatabaseHandle;
  beforeAll(async () => {
    handle = openDatabase({ connection: posthorn.database.connection, logger: createLogger('silent') });
    const id = parseId('tenant', stranger) as string;
    await sql`
      WITH many AS (
        INSERT INTO audit_log (tenant_id, sequence, id, action, outcome, after, hash)
        SELECT ${id}, sequence, gen_random_uuid(), 'thing.made', 'success',
          json_build_object('text', repeat('x', 500)), sha256('x')
        FROM generate_series(2, ${ROWS}::int) AS sequence
        RETURNING 1
      )
      UPDATE audit_chains SET sequence = ${ROWS} WHERE tenant_id = ${id}`.execute(handle.db);
  });
  afterAll(() => handle.close());

  /** Whether nobody has asked for entries for half a second. */
  const isQuiet = async () => {
    const { rows } = await sql<{ quiet: boolean }>`
      SELECT count(*) FILTER (WHERE state <> 'idle' OR clock_timestamp() - state_change < interval '500 ms') = 0 AS quiet
      FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%"audit_log"%'`.execute(handle.db);
    return rows[0]?.quiet === true;
  };

  test('waits for one who does not read: it has not come to its end when the last entry changes', async () => {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { authorization: `Bearer ${keys.strange?.key}` };
      request(`${posthorn.url}/api/v1/audit/export`, { headers }, resolve).on('error', reject).end();
    });
    await eventually(isQuiet, (quiet) => quiet);
    await handle.db.transaction().execute(async (trx) => {
      // Without the triggers that keep entries as they are.
      await sql`SET LOCAL session_replication_role = replica`.execute(trx);
      await sql`UPDATE audit_log SET action = 'thing.changed' WHERE sequence = ${ROWS}`.execute(trx);
    });
    const lines = (await text(answer)).trimEnd().split('\n');
    expect(lines).toHaveLength(ROWS);
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ sequence: ROWS, action: 'thing.changed' });
  });

  test('has all of them, in the order of the chain', async () => {
    const { text: body, headers } = await get('/export', 'strange');
    expect(headers.get('content-type')).toBe('application/x-ndjson');
    const lines = body.split('\n');
    expect(lines.pop()).toBe('');
    // The export before this one is the last of them.
    const sequences = Array.from({ length: ROWS + 1 }, (_, at) => at + 1);
    expect(lines.map((line) => JSON.parse(line).sequence)).toEqual(sequences);
  });
});

test('an export is recorded itself, with what it was asked for, where the one who asked may see it', async () => {
  const newest = async (query = '') => (await get(`?limit=1${query}`)).body.data[0];
  await get('/export?action=api_key.created&since=2026-01-01T00:00:00Z', 'staging');
  expect(await newest()).toMatchObject({
    action: 'audit.exported',
    actor: { kind: 'api_key', id: keys.staging?.id },
    role: 'admin',
    environment: 'staging',
    resource_type: 'audit',
    resource_id: 'tenant',
    details: { action: 'api_key.created', since: '2026-01-01T00:00:00Z' },
  });
  await get('/export', 'owner');
  const ofOwner = await newest();
  expect(ofOwner).toMatchObject({ action: 'audit.exported', actor: { id: keys.owner?.id }, environment: null });
  await get('/export?chain=platform');
  expect(await newest('&chain=platform')).toMatchObject({
    action: 'audit.exported',
    actor: { kind: 'operator' },
    resource_id: 'platform',
  });
  // Neither one that is refused, nor a look at the list.
  expect((await get('/export?chain=platform', 'owner')).status).toBe(403);
  expect(await newest()).toEqual(ofOwner);
});
