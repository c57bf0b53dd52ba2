import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Scope } from '../http/caller.ts';
import { FilteredEvent } from '../routing/filters/filtered-event.ts';
import { openWebhookFixture, type WebhookFixture } from './webhook-fixture.ts';

let api: WebhookFixture;
let scope: Scope;
beforeAll(async () => {
  api = await openWebhookFixture();
  scope = await api.addEnvironment();
});
afterAll(() => api.close());

const minimal = { name: 'CRM', url: 'https://hooks.example.com/crm', events: ['*'] };
const create = (fields: object) => api.call(scope, 'POST', '', { ...minimal, ...fields });
const change = (id: string, fields: object) => api.call(scope, 'PATCH', `/${id}`, fields);

/** As call-center.md prints it. */
const PRINTED = { field_path: 'data.lead.score', operator: 'greater_than', value: 80, case_sensitive: false };

describe('filters of a webhook', () => {
  it('are none, and all of them have to match, unless it says otherwise', async () => {
    const { body } = await create({});
    expect(body).toMatchObject({ filters: [], filter_mode: 'all', filtered_deliveries: 0 });
  });

  it('are given back as they were given, with their defaults', async () => {
    const filters = [
      PRINTED,
      { field_path: 'lead.tags', operator: 'not_in', value: ['x', 1.5, null, true] },
      { field_path: 'lead.email', operator: 'exists' },
      { field_path: 'lead.name', operator: 'matches', value: '^J.*n\\b', case_sensitive: null },
    ];
    const { status, body } = await create({ filters, filter_mode: 'any' });
    expect(status).toBe(201);
    const shown = [PRINTED, ...filters.slice(1).map((filter) => ({ ...filter, case_sensitive: true }))];
    expect(body).toMatchObject({ filter_mode: 'any' });
    expect(body.filters).toEqual(shown);
    expect((await api.call(scope, 'GET', `/${body.id}`)).body.filters).toEqual(shown);
    const { data } = (await api.call(scope, 'GET', '')).body;
    expect(data.find(({ id }: { id: string }) => id === body.id).filters).toEqual(shown);
  });

  it('may be one by itself, as call-center.md prints it, and are shown as a list of one', async () => {
    const { status, body } = await create({ filters: PRINTED });
    expect([status, body.filters]).toEqual([201, [PRINTED]]);
    const other = { field_path: 'a', operator: 'exists' };
    const shown = [{ ...other, case_sensitive: true }];
    expect((await change(body.id, { filters: other })).body.filters).toEqual(shown);
    expect((await api.call(scope, 'PUT', `/${body.id}`, { filters: PRINTED })).body.filters).toEqual([PRINTED]);
    expect((await api.call(scope, 'GET', `/${body.id}`)).body.filters).toEqual([PRINTED]);
  });

  it('stay when they are not mentioned, are replaced as a whole, and go with null or an empty list', async () => {
    const { id } = (await create({ filters: [PRINTED], filter_mode: 'any' })).body;
    expect((await change(id, { name: 'Other' })).body).toMatchObject({ filters: [PRINTED], filter_mode: 'any' });
    const other = { field_path: 'a', operator: 'exists', case_sensitive: true };
    expect((await change(id, { filters: [other] })).body).toMatchObject({ filters: [other], filter_mode: 'any' });
    expect((await change(id, { filters: [], filter_mode: null })).body).toMatchObject({
      filters: [],
      filter_mode: 'all',
    });
    await change(id, { filters: [other] });
    expect((await change(id, { filters: null })).body.filters).toEqual([]);
  });

  it.each<[string, object, ...string[]]>([
    ['an operator that is none', { filters: [{ ...PRINTED, operator: 'gt' }] }, 'filters.0.operator'],
    ['no path', { filters: [{ operator: 'exists' }] }, 'filters.0.field_path'],
    ['an empty path', { filters: [{ ...PRINTED, field_path: '' }] }, 'filters.0.field_path'],
    ['a member that is none', { filters: [{ ...PRINTED, negate: true }] }, 'filters.0.negate'],
    ['a case that is no boolean', { filters: [{ ...PRINTED, case_sensitive: 'no' }] }, 'filters.0.case_sensitive'],
    ['21 filters', { filters: Array(21).fill(PRINTED) }, 'filters'],
    ['a text for a list', { filters: 'data.lead.score > 80' }, 'filters'],
    ['a list in the list', { filters: [[PRINTED]] }, 'filters.0'],
    ['one by itself without a path', { filters: {} }, 'filters.field_path', 'filters.operator'],
    ['one by itself with a wrong operator', { filters: { ...PRINTED, operator: 'gt' } }, 'filters.operator'],
    ['one by itself with a wrong value', { filters: { ...PRINTED, value: {} } }, 'filters.value'],
    ['one by itself with a member that is none', { filters: { ...PRINTED, negate: true } }, 'filters.negate'],
    ['a mode that is none', { filter_mode: 'none' }, 'filter_mode'],
    ['a value that does not go with the second', { filters: [PRINTED, { ...PRINTED, value: {} }] }, 'filters.1.value'],
    ['a value in a list', { filters: [{ ...PRINTED, operator: 'in', value: [1, []] }] }, 'filters.0.value.1'],
    [
      'a pattern that takes for ever',
      { filters: [{ ...PRINTED, operator: 'matches', value: '(a)\\1' }] },
      'filters.0.value',
    ],
    ['NUL', { filters: [{ ...PRINTED, operator: 'equals', value: 'a\0' }] }, 'filters.0.value'],
  ])('cannot have %s', async (_name, fields, ...paths) => {
    const { id } = (await create({})).body;
    for (const { status, body } of [await create(fields), await change(id, fields)]) {
      expect(status).toBe(422);
      expect(body.error.details.fields.map((field: { path: string }) => field.path)).toEqual(paths);
    }
    expect((await api.call(scope, 'GET', `/${id}`)).body.filters).toEqual([]);
  });

  it('may be 20, with 100 values, on a path of 16 steps', async () => {
    const value = Array.from({ length: 100 }, (_, n) => n);
    const filter = { field_path: Array(16).fill('a').join('.'), operator: 'in', value, case_sensitive: false };
    const { status, body } = await create({ filters: Array(20).fill(filter) });
    expect([status, body.filters?.length]).toEqual([201, 20]);
  });

  it('may be 16 KB together, and no more', async () => {
    const filter = { ...PRINTED, operator: 'in', value: [] as string[] };
    const lengthOf = () => JSON.stringify([filter]).length;
    while (lengthOf() < 15_300) filter.value.push('x'.repeat(1_000));
    filter.value.push('x'.repeat(16_384 - lengthOf() - 3));
    expect([lengthOf(), (await create({ filters: [filter] })).status]).toEqual([16_384, 201]);
    filter.value[0] += 'x';
    const { status, body } = await create({ filters: [filter] });
    expect([status, body.error.details.fields[0].path]).toEqual([422, 'filters']);
  });

  it('are in the audit log before and after', async () => {
    const { id } = (await create({ filters: [PRINTED] })).body;
    await change(id, { filter_mode: 'any', filters: [] });
    const { rows } = await api.handle.pool.query(
      "SELECT before, after FROM audit_log WHERE resource_id = $1 AND action = 'webhook.updated'",
      [id],
    );
    expect(rows).toEqual([
      {
        before: { filters: [PRINTED], filter_mode: 'all' },
        after: { filters: [], filter_mode: 'any' },
      },
    ]);
  });

  it('are in the directory with the change', async () => {
    const own = await api.addEnvironment();
    const { id } = (await api.call(own, 'POST', '', minimal)).body;
    const filters = async () => (await api.directory.match(own, 'a.b')).map(({ filter }) => filter);
    expect(await filters()).toEqual([null]);
    await api.call(own, 'PATCH', `/${id}`, { filters: [PRINTED] });
    const [filter] = await filters();
    const judge = (data: string) =>
      filter?.matches(
        new FilteredEvent({ type: 'a', eventId: null, occurredAtMs: 0, data: Buffer.from(data), metadata: null }),
      );
    expect([judge('{"lead":{"score":81}}'), judge('{"lead":{"score":80}}')]).toEqual([true, false]);
  });

  it('of another tenant are changed by nobody else', async () => {
    const { id } = (await create({ filters: [PRINTED] })).body;
    const other = await api.addEnvironment();
    expect((await api.call(other, 'PATCH', `/${id}`, { filters: [] })).status).toBe(404);
    expect((await api.call(scope, 'GET', `/${id}`)).body.filters).toEqual([PRINTED]);
  });
});
