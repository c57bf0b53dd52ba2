import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Caller } from '../http/caller.ts';
import { type CatalogFixture, startCatalogFixture } from './catalog-fixture.ts';
import { presets } from './presets/presets.ts';

let catalog: CatalogFixture;

beforeAll(async () => {
  catalog = await startCatalogFixture();
});

afterAll(() => catalog.stop());

async function presetOf({ tenantId, environmentId }: Caller): Promise<string> {
  const row = await catalog.handle.db
    .selectFrom('environments')
    .select('preset')
    .where('tenant_id', '=', tenantId)
    .where('id', '=', environmentId)
    .executeTakeFirstOrThrow();
  return row.preset;
}

test.each([
  ['isp-communications', 12],
  ['isp-framework', 25],
  ['call-center', 38],
  ['support-autoresponder', 10],
  ['whatsapp-crm', 22],
  ['standard', 0],
])('%s brings its %i event types, however often it is installed', async (name, count) => {
  const caller = await catalog.makeCaller();
  for (let time = 0; time < 2; time += 1) {
    const { status, body } = await catalog.call(caller, 'POST', `/event-types/presets/${name}`);
    expect(status).toBe(200);
    expect(body).toMatchObject({ preset: name, installed: count });
    expect(body.event_types).toHaveLength(count);
  }
  const { body } = await catalog.call(caller, 'GET', `/event-types?limit=250&preset=${name}`);
  expect(body.data).toHaveLength(count);
  for (const type of presets.get(name as never)?.event_types ?? []) {
    const { body: shown } = await catalog.call(caller, 'GET', `/webhooks/events/${type.name}`);
    expect(shown).toMatchObject(type);
  }
  expect(await presetOf(caller)).toBe(name);
});

test('a preset is installed in one environment only', async () => {
  const caller = await catalog.makeCaller();
  const neighbour = await catalog.makeCaller(caller.tenantId);
  await catalog.call(caller, 'POST', '/event-types/presets/whatsapp-crm');
  expect((await catalog.call(neighbour, 'GET', '/event-types')).body.data).toEqual([]);
  expect(await presetOf(neighbour)).toBe('standard');
});

test('installing again brings back texts and leaves what the tenant decided', async () => {
  const caller = await catalog.makeCaller();
  await catalog.call(caller, 'POST', '/event-types', { name: 'own.type', description: 'Mine' });
  await catalog.call(caller, 'POST', '/event-types/presets/whatsapp-crm');
  const change = { description: 'Changed', sample: null, enforce_schema: true, deprecated: true };
  await catalog.call(caller, 'PATCH', '/event-types/message.new', change);
  await catalog.call(caller, 'POST', '/event-types/presets/whatsapp-crm');
  const type = presets.get('whatsapp-crm')?.event_types.find(({ name }) => name === 'message.new');
  expect((await catalog.call(caller, 'GET', '/event-types/message.new')).body).toMatchObject({
    description: type?.description,
    sample: type?.sample,
    enforce_schema: true,
    deprecated: true,
  });
  expect((await catalog.call(caller, 'GET', '/event-types/own.type')).body).toMatchObject({
    description: 'Mine',
    preset: null,
  });
});

test('a preset that does not exist is 404', async () => {
  const caller = await catalog.makeCaller();
  for (const name of ['nothing', 'constructor', '__proto__', '%00']) {
    const answer = await catalog.call(caller, 'POST', `/event-types/presets/${name}`);
    expect([answer.status, answer.body.error.message]).toEqual([404, 'No such preset.']);
  }
  expect(await presetOf(caller)).toBe('standard');
});

test('the presets are listed with their delivery defaults', async () => {
  const caller = await catalog.makeCaller();
  const { body } = await catalog.call(caller, 'GET', '/event-types/presets');
  expect(body.data).toEqual(
    [...presets.values()].map(({ name, title, description, delivery, event_types: types }) => ({
      name,
      title,
      description,
      delivery,
      event_type_count: types.length,
    })),
  );
});

test('an installation tells of the event types, of the tenant and of its webhooks', async () => {
  const caller = await catalog.makeCaller();
  catalog.changes.length = 0;
  await catalog.call(caller, 'POST', '/event-types/presets/call-center');
  const { tenantId, environmentId } = caller;
  expect(catalog.changes).toEqual(
    ['event_types', 'tenants', 'webhooks'].map((topic) => ({ topic, tenantId, environmentId })),
  );
});
