import { expect, test } from 'vitest';
import { systemClock } from './clock.ts';
import { LoadingCache } from './loading-cache.ts';

function cacheAt(options: { maxEntries?: number; maxAgeMs?: number } = {}) {
  const time = { ms: 0 };
  const clock = { ...systemClock, monotonicMs: () => time.ms };
  return { cache: new LoadingCache<string>({ clock, ...options }), time };
}

/** A load that ends when the test says so. */
function pendingRead() {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  return { read: () => promise, finish: resolve };
}

test('a loaded value is there without a promise until it is invalidated', async () => {
  const { cache } = cacheAt();
  expect(cache.cached('a')).toBeUndefined();
  expect(await cache.load('a', async () => 'one')).toBe('one');
  expect(cache.cached('a')).toBe('one');
  cache.invalidate((value) => value === 'other');
  expect(cache.cached('a')).toBe('one');
  cache.invalidate((value) => value === 'one');
  expect(cache.cached('a')).toBeUndefined();
});

test('what is not there is asked for again', async () => {
  const { cache } = cacheAt();
  expect(await cache.load('a', async () => undefined)).toBeUndefined();
  expect(await cache.load('a', async () => 'made since')).toBe('made since');
});

test('those who ask for one key at the same time share a load', async () => {
  const { cache } = cacheAt();
  const slow = pendingRead();
  let loads = 0;
  const read = () => {
    loads += 1;
    return slow.read();
  };
  const answers = Promise.all([cache.load('a', read), cache.load('a', read), cache.load('a', read)]);
  slow.finish('one');
  expect(await answers).toEqual(['one', 'one', 'one']);
  expect(loads).toBe(1);
});

test.each(['invalidate', 'invalidateAll'] as const)(
  'a value read before %s is not kept, nor given to those who ask after it',
  async (method) => {
    const { cache } = cacheAt();
    const before = pendingRead();
    const early = cache.load('a', before.read);
    // The value under way is unknown, so no predicate can spare it.
    if (method === 'invalidate') cache.invalidate(() => false);
    else cache.invalidateAll();
    const after = pendingRead();
    const late = cache.load('a', after.read);
    before.finish('old');
    expect(await early).toBe('old');
    expect(cache.cached('a')).toBeUndefined();
    after.finish('new');
    expect(await late).toBe('new');
    expect(cache.cached('a')).toBe('new');
  },
);

test('a load that ended after an invalidation does not take the place of the one that began after it', async () => {
  const { cache } = cacheAt();
  const before = pendingRead();
  const after = pendingRead();
  const early = cache.load('a', before.read);
  cache.invalidateAll();
  const late = cache.load('a', after.read);
  after.finish('new');
  await late;
  before.finish('old');
  await early;
  expect(cache.cached('a')).toBe('new');
});

test('a load that fails is not remembered', async () => {
  const { cache } = cacheAt();
  await expect(cache.load('a', () => Promise.reject(new Error('down')))).rejects.toThrow('down');
  expect(await cache.load('a', async () => 'one')).toBe('one');
});

test('keys in use among a flood of others stay, and no more than the limit is held', async () => {
  const { cache } = cacheAt({ maxEntries: 100 });
  const inUse = Array.from({ length: 20 }, (_, index) => `used-${index}`);
  for (const key of inUse) await cache.load(key, async () => key);
  for (let count = 0; count < 500; count += 1) {
    await cache.load(`once-${count}`, async () => 'x');
    expect(inUse.map((key) => cache.cached(key))).toEqual(inUse);
  }
  const others = Array.from({ length: 500 }, (_, count) => cache.cached(`once-${count}`));
  expect(others.filter((value) => value !== undefined).length).toBeLessThanOrEqual(80);
});

test('an entry read again after its age takes the place of the old one', async () => {
  const { cache, time } = cacheAt({ maxEntries: 2, maxAgeMs: 10 });
  await cache.load('a', async () => 'old');
  await cache.load('b', async () => 'b');
  time.ms = 10;
  expect(cache.cached('a')).toBeUndefined();
  await cache.load('a', async () => 'new');
  expect(cache.cached('a')).toBe('new');
  cache.invalidate((value) => value === 'new');
  expect(cache.cached('a')).toBeUndefined();
});

test('the entry unused for longest makes room', async () => {
  const { cache } = cacheAt({ maxEntries: 2 });
  await cache.load('a', async () => 'a');
  await cache.load('b', async () => 'b');
  cache.cached('a');
  await cache.load('c', async () => 'c');
  expect([cache.cached('a'), cache.cached('b'), cache.cached('c')]).toEqual(['a', undefined, 'c']);
});

test('an entry is loaded anew after its age, counted from the beginning of its load', async () => {
  const { cache, time } = cacheAt({ maxAgeMs: 1000 });
  const slow = pendingRead();
  const load = cache.load('a', slow.read);
  time.ms = 600;
  slow.finish('one');
  await load;
  time.ms = 999;
  expect(cache.cached('a')).toBe('one');
  time.ms = 1000;
  expect(cache.cached('a')).toBeUndefined();
});
