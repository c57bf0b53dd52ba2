import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Caller } from '../http/caller.ts';
import { systemClock } from '../kernel/clock.ts';
import { type CatalogFixture, startCatalogFixture } from './catalog-fixture.ts';
import { checkEventPatterns } from './check-event-patterns.ts';
import { createEventTypeDirectory, type EventTypeEntry } from './directory.ts';

let catalog: CatalogFixture;
let caller: Caller;

beforeAll(async () => {
  catalog = await startCatalogFixture();
  caller = await catalog.makeCaller();
  await catalog.call(caller, 'POST', '/event-types/presets/isp-framework');
});

afterAll(() => catalog.stop());

async function found(name: string, of: Caller = caller): Promise<EventTypeEntry> {
  const entry = await catalog.directory.lookup(of, name);
  if (entry === 'unknown') throw new Error(`${name} is unknown`);
  return entry;
}

describe('lookup', () => {
  test('answers at once what it knows', async () => {
    await found('invoice.paid');
    expect(catalog.directory.lookup(caller, 'invoice.paid')).toMatchObject({ name: 'invoice.paid', deprecated: false });
    expect(catalog.directory.lookup(caller, 'invoice.lost')).toBe('unknown');
    expect(catalog.directory.lookup(caller, 'constructor')).toBe('unknown');
  });

  test('sees each change made through this node at once', async () => {
    const own = await catalog.makeCaller();
    expect(await catalog.directory.lookup(own, 'a.b')).toBe('unknown');
    await catalog.call(own, 'POST', '/event-types', { name: 'a.b' });
    expect((await found('a.b', own)).validate).toBeUndefined();
    await catalog.call(own, 'PATCH', '/event-types/a.b', { schema: { type: 'object' }, enforce_schema: true });
    expect((await found('a.b', own)).validate?.(1)).toEqual([{ path: '', message: 'must be object' }]);
    await catalog.call(own, 'PATCH', '/event-types/a.b', { schema: { type: 'number' } });
    expect((await found('a.b', own)).validate?.(1)).toEqual([]);
    await catalog.call(own, 'PATCH', '/event-types/a.b', { enforce_schema: false });
    expect((await found('a.b', own)).validate).toBeUndefined();
    await catalog.call(own, 'DELETE', '/event-types/a.b');
    expect(await catalog.directory.lookup(own, 'a.b')).toBe('unknown');
  });

  test('a change that is refused leaves the cache as it is', async () => {
    const own = await catalog.makeCaller();
    await catalog.call(own, 'POST', '/event-types', { name: 'stays' });
    await found('stays', own);
    await catalog.call(own, 'POST', '/event-types', { name: 'stays' });
    expect(catalog.directory.lookup(own, 'stays')).not.toBeInstanceOf(Promise);
  });

  test('what was being read during a change is not kept', async () => {
    const own = await catalog.makeCaller();
    await catalog.call(own, 'POST', '/event-types', { name: 'early' });
    const blocker = new pg.Client(catalog.connection);
    await blocker.connect();
    try {
      await blocker.query('BEGIN');
      await blocker.query('LOCK TABLE event_types IN ACCESS EXCLUSIVE MODE');
      const during = catalog.directory.lookup(own, 'late');
      expect(during).toBeInstanceOf(Promise);
      await blocker.query(
        `INSERT INTO event_types (tenant_id, environment_id, name, group_name, description, created_at, updated_at)
         VALUES ($1, $2, 'late', 'g', '', now(), now())`,
        [own.tenantId, own.environmentId],
      );
      catalog.directory.invalidate(own.tenantId, own.environmentId);
      await blocker.query('COMMIT');
      await during;
    } finally {
      await blocker.end();
    }
    const after = catalog.directory.lookup(own, 'late');
    expect(after).toBeInstanceOf(Promise);
    expect(await after).toMatchObject({ name: 'late' });
  });

  test('an invalidation of one environment leaves the others in memory', async () => {
    const neighbour = await catalog.makeCaller(caller.tenantId);
    const isCached = (of: Caller) => !(catalog.directory.lookup(of, 'x') instanceof Promise);
    const loadBoth = async () => {
      await catalog.directory.lookup(caller, 'x');
      await catalog.directory.lookup(neighbour, 'x');
    };
    await loadBoth();
    catalog.directory.invalidate(caller.tenantId, neighbour.environmentId);
    expect([isCached(caller), isCached(neighbour)]).toEqual([true, false]);
    await loadBoth();
    catalog.directory.invalidate(caller.tenantId);
    expect([isCached(caller), isCached(neighbour)]).toEqual([false, false]);
    await loadBoth();
    catalog.directory.invalidateAll();
    expect([isCached(caller), isCached(neighbour)]).toEqual([false, false]);
  });

  test('no more environments are kept than allowed', async () => {
    const small = createEventTypeDirectory({ db: catalog.handle.db, clock: systemClock, maxEnvironments: 2 });
    const callers = [await catalog.makeCaller(), await catalog.makeCaller(), await catalog.makeCaller()];
    for (const one of callers) await small.lookup(one, 'x');
    expect(callers.map((one) => small.lookup(one, 'x') instanceof Promise)).toEqual([true, false, false]);
  });

  test('a stored schema that cannot be used lets nothing pass', async () => {
    const own = await catalog.makeCaller();
    await catalog.call(own, 'POST', '/event-types', { name: 'old', schema: {}, enforce_schema: true });
    await catalog.handle.db
      .updateTable('event_types')
      .set({ schema: '{"$ref":"https://example.com/s"}' })
      .where('tenant_id', '=', own.tenantId)
      .execute();
    catalog.directory.invalidateAll();
    expect((await found('old', own)).validate?.({})[0]?.message).toContain(
      "cannot be checked: the event type's schema.$ref",
    );
  });
});

test('the notices of a change leave the database with its transaction', async () => {
  const listener = new pg.Client(catalog.connection);
  await listener.connect();
  try {
    const heard: unknown[] = [];
    listener.on('notification', ({ payload }) => heard.push(JSON.parse(payload ?? '')));
    await listener.query('LISTEN posthorn_changes');
    const { tenantId, environmentId } = caller;
    await catalog.call(caller, 'POST', '/event-types', { name: 'heard.of' });
    await catalog.call(caller, 'POST', '/event-types', { name: 'heard.of' });
    await catalog.call(caller, 'DELETE', '/event-types/heard.of');
    // Notices that were sent before this statement's are handed over with its answer at the latest.
    await listener.query('SELECT 1');
    const ours = heard.filter((notice) => (notice as { tenantId: string }).tenantId === tenantId);
    expect(ours).toEqual(Array(2).fill({ topic: 'event_types', tenantId, environmentId }));
  } finally {
    await listener.end();
  }
});

describe('firstMatching', () => {
  test('gives the first type by name that a pattern matches, with a sample if any has one', async () => {
    const own = await catalog.makeCaller();
    for (const [name, sample] of [
      ['a.x', undefined],
      ['a.y', 1],
      ['b.x', 2],
    ] as const) {
      await catalog.call(own, 'POST', '/event-types', { name, sample });
    }
    const first = async (...patterns: string[]) => (await catalog.directory.firstMatching(own, patterns))?.name;
    expect(await first('*')).toBe('a.y');
    expect(await first('b.*', 'a.*')).toBe('a.y');
    expect(await first('a.x')).toBe('a.x');
    expect(await first('b.x')).toBe('b.x');
    expect(await first('c.*', '(')).toBeUndefined();
  });
});

describe('near names', () => {
  test('a slip is met with the name that was meant', async () => {
    expect(await catalog.directory.nearest(caller, 'invoice.payed')).toContain('invoice.paid');
    expect((await catalog.directory.nearest(caller, 'Customer.Create'))[0]).toBe('customer.created');
    expect(await catalog.directory.nearest(caller, 'something.quite.different')).toEqual([]);
  });

  test('there are three at most, the nearest first, and a huge name has none', async () => {
    const own = await catalog.makeCaller();
    for (const name of ['order.paid', 'order.pa', 'order.p', 'order.paids', 'refund.made']) {
      await catalog.call(own, 'POST', '/event-types', { name });
    }
    expect(await catalog.directory.nearest(own, 'order.payd')).toEqual(['order.paid', 'order.pa', 'order.paids']);
    expect(await catalog.directory.nearest(own, 'x'.repeat(1_000_000))).toEqual([]);
  });

  test('the error for an unknown type names them', async () => {
    const error = await catalog.directory.unknownEventType(caller, 'customer.create', 'events.3.event_type');
    expect(error).toMatchObject({ status: 422, code: 'unknown_event_type' });
    expect(error.details?.fields).toEqual([
      {
        path: 'events.3.event_type',
        message: expect.stringMatching(
          /^is not an event type of this environment; did you mean customer\.created( or |\?)/,
        ),
      },
    ]);
  });
});

describe('checkEventPatterns', () => {
  const check = async (patterns: string[], allowUnknown = false) =>
    (await checkEventPatterns(catalog.directory, caller, patterns, allowUnknown)).map(
      ({ path, message }) => `${path} ${message}`,
    );

  test('takes known names, everything, and prefixes of known names', async () => {
    expect(await check(['*', 'invoice.paid', 'invoice.*', 'network.device.*', 'network.*'])).toEqual([]);
  });

  test('refuses what can never match, with the name that was meant', async () => {
    expect(await check(['invoice.paid', 'invoice.pad', 'lead.*', 'invoice.paid.*'])).toEqual([
      expect.stringMatching(/^events\.1 is not an event type of this environment; did you mean invoice\.paid/),
      'events.2 matches no event type of this environment',
      'events.3 matches no event type of this environment',
    ]);
  });

  test('takes any name and prefix where unknown types are allowed', async () => {
    expect(await check(['lead.new', 'lead.*'], true)).toEqual([]);
  });

  test.each(['', '**', '*.*', '*.a', 'a*', 'a.*.b', '.*', 'a..*', 'a b', 'a\n', '__proto__.*x', 'x'.repeat(131)])(
    'refuses %j in any case',
    async (pattern) => {
      expect(await check([pattern], true)).toEqual([
        expect.stringContaining('events.0 must be the name of an event type'),
      ]);
    },
  );

  test('sees only the environment of the caller', async () => {
    const stranger = await catalog.makeCaller();
    expect(await checkEventPatterns(catalog.directory, stranger, ['invoice.paid'], false)).toEqual([
      { path: 'events.0', message: 'is not an event type of this environment' },
    ]);
  });
});
