import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { createIdSource, formatId } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { readStoredTemplates } from './stored-templates.ts';

const newId = createIdSource();
const scope = { tenantId: newId(), environmentId: newId() };

let database: TestDatabase;
let handle: DatabaseHandle;
beforeAll(async () => {
  database = await createTestDatabase();
  handle = openDatabase({ connection: database.connection, logger: createLogger('silent') });
  const now = new Date();
  const tenant = { id: scope.tenantId, slug: 'acme', name: 'Acme', settings: '{}', created_at: now, updated_at: now };
  await handle.db.insertInto('tenants').values(tenant).execute();
  await handle.db
    .insertInto('environments')
    .values({ tenant_id: tenant.id, id: scope.environmentId, name: 'production', preset: 'standard', created_at: now })
    .execute();
});
afterAll(async () => {
  await handle.close();
  await database.drop();
});

async function addTemplate(name: string, eventType: string | null = null): Promise<string> {
  const [id, now] = [newId(), new Date()];
  const of = { tenant_id: scope.tenantId, created_at: now };
  await handle.db
    .insertInto('templates')
    .values({
      ...of,
      id,
      environment_id: scope.environmentId,
      name,
      event_type: eventType,
      description: null,
      version: 1,
      last_version: 1,
      updated_at: now,
    })
    .execute();
  await handle.db
    .insertInto('template_versions')
    .values({ ...of, template_id: id, version: 1, content: JSON.stringify({ template: name }) })
    .execute();
  return id;
}

test('only those that are named are read, by whichever name', async () => {
  const id = await addTemplate('by-id');
  await addTemplate('by-name');
  await addTemplate('by-name', 'order.paid');
  for (let n = 0; n < 20; n++) await addTemplate(`other-${n}`);
  let rows = 0;
  const counting = handle.db.withPlugin({
    transformQuery: ({ node }) => node,
    transformResult: async ({ result }) => {
      rows += result.rows.length;
      return result;
    },
  });
  const found = await readStoredTemplates(counting, scope, new Set([formatId('template', id), 'by-name', 'nobody']));
  const names = Object.fromEntries([...found].map(([name, templates]) => [name, templates.map((each) => each.name)]));
  expect(names).toEqual({ [formatId('template', id)]: ['by-id'], 'by-name': ['by-name', 'by-name'] });
  // Each has up to 64 KB, and an environment up to a thousand.
  expect(rows).toBe(3);
});
