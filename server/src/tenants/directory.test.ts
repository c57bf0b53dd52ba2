import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource, formatId } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { ensureDefaultTenant } from './default-tenant.ts';
import { createTenantDirectory } from './directory.ts';
import { insertTenant } from './queries.ts';
import { DEFAULT_SETTINGS } from './types.ts';

const newId = createIdSource();
const clock = systemClock;
let database: TestDatabase;
let handle: DatabaseHandle;

beforeAll(async () => {
  database = await createTestDatabase();
  handle = openDatabase({ connection: database.connection, logger: createLogger('silent') });
});

afterAll(async () => {
  await handle.close();
  await database.drop();
});

async function makeTenant(slug: string): Promise<string> {
  const tenant = await handle.db
    .transaction()
    .execute((trx) => insertTenant(trx, { slug, name: slug, settings: DEFAULT_SETTINGS }, newId, new Date()));
  if (tenant === undefined) throw new Error('the slug was taken');
  return tenant.id;
}

test('ten nodes that start at once make one default tenant, with the settings of a new one', async () => {
  const settings = { ...DEFAULT_SETTINGS, allow_unknown_event_types: true };
  const results = await Promise.all(
    Array.from({ length: 10 }, () => ensureDefaultTenant({ db: handle.db, clock, newId, settings })),
  );
  expect(results.filter((result) => result.created)).toHaveLength(1);
  expect(new Set(results.map((result) => result.tenantId)).size).toBe(1);
  const directory = createTenantDirectory({ db: handle.db, clock });
  const tenant = await directory.find('default');
  expect(tenant?.settings).toEqual({ ...DEFAULT_SETTINGS, ...settings });
  expect([...(tenant?.environments.keys() ?? [])].sort()).toEqual(['development', 'production', 'staging']);
});

test('a default tenant that is there is left as it is', async () => {
  await handle.db.updateTable('tenants').set({ name: 'Renamed' }).where('slug', '=', 'default').execute();
  const result = await ensureDefaultTenant({ db: handle.db, clock, newId, settings: DEFAULT_SETTINGS });
  expect(result.created).toBe(false);
  const found = await createTenantDirectory({ db: handle.db, clock }).get(result.tenantId);
  expect(found).toMatchObject({ name: 'Renamed', settings: { allow_unknown_event_types: true } });
});

test('a tenant that is known is answered without a promise, by slug and by both ids', async () => {
  const id = await makeTenant('known');
  const directory = createTenantDirectory({ db: handle.db, clock });
  const bySlug = await directory.find('known');
  const byId = await directory.find(formatId('tenant', id));
  expect(bySlug).toMatchObject({ id, slug: 'known' });
  expect(directory.find('known')).toBe(bySlug);
  expect(directory.find(formatId('tenant', id))).toBe(byId);
  expect(directory.get(id)).toBe(byId);
  expect(directory.settings(id)).toEqual(DEFAULT_SETTINGS);
});

test('a change is seen after its notice under every name of the tenant, and another tenant stays in memory', async () => {
  const [id, otherId] = [await makeTenant('changing'), await makeTenant('steady')];
  const directory = createTenantDirectory({ db: handle.db, clock });
  await directory.find('changing');
  await directory.get(id);
  const steady = await directory.get(otherId);
  await handle.db
    .updateTable('tenants')
    .set({ slug: 'changed', settings: '{"allow_unknown_event_types":true}' })
    .where('id', '=', id)
    .execute();
  directory.invalidate(id);
  expect(await directory.find('changing')).toBeUndefined();
  expect(await directory.find('changed')).toMatchObject({ id });
  expect(await directory.settings(id)).toEqual({ ...DEFAULT_SETTINGS, allow_unknown_event_types: true });
  expect(directory.get(otherId)).toBe(steady);
  directory.invalidateAll();
  const anew = directory.get(otherId);
  expect(anew).toBeInstanceOf(Promise);
  await anew;
});

test('a tenant that was not there is found as soon as it is', async () => {
  const directory = createTenantDirectory({ db: handle.db, clock });
  expect(await directory.find('later')).toBeUndefined();
  const id = await makeTenant('later');
  expect(await directory.find('later')).toMatchObject({ id });
});

test.each(['', '../x', "x'; DROP TABLE tenants", '__proto__', 'tnt_x', 'a\0'])(
  '%j names no tenant, and no query is made to know it',
  (text) => {
    expect(createTenantDirectory({ db: handle.db, clock }).find(text)).toBeUndefined();
  },
);

test('a text of 100,000 characters names no tenant', () => {
  expect(createTenantDirectory({ db: handle.db, clock }).find('x'.repeat(100_000))).toBeUndefined();
});

test('a tenant that is gone has the default settings, and stored settings of another form do too', async () => {
  const directory = createTenantDirectory({ db: handle.db, clock });
  expect(await directory.settings(newId())).toEqual(DEFAULT_SETTINGS);
  const id = await makeTenant('odd');
  for (const stored of ['null', '[]', '"x"', '{"allow_unknown_event_types":"yes","other":1}']) {
    await handle.db.updateTable('tenants').set({ settings: stored }).where('id', '=', id).execute();
    directory.invalidate(id);
    expect(await directory.settings(id)).toEqual(DEFAULT_SETTINGS);
  }
});

test('memory holds no more tenants than it is told to', async () => {
  const ids = [await makeTenant('cap-1'), await makeTenant('cap-2'), await makeTenant('cap-3')];
  const directory = createTenantDirectory({ db: handle.db, clock, maxEntries: 2 });
  for (const id of ids) await directory.get(id);
  const found = ids.map((id) => directory.get(id));
  expect(found.map((each) => each instanceof Promise)).toEqual([true, false, false]);
  await Promise.all(found);
});
