import { describe, expect, it } from 'vitest';
import { type Chosen, chooseTargets } from './choose-targets.ts';
import type { Filter } from './filter.ts';
import { compileFilters, type FilterSet } from './filter-set.ts';
import { FilteredEvent } from './filtered-event.ts';

const MEGABYTE = 1_048_576;

function setOf(...filters: Omit<Filter, 'case_sensitive'>[]): FilterSet {
  const compiled = compileFilters(
    filters.map((filter) => ({ case_sensitive: false, ...filter })),
    'any',
  );
  if (!compiled.ok || compiled.set === null) throw new Error(JSON.stringify(compiled));
  return compiled.set;
}

const contentOf = (value: unknown) => ({
  type: 't',
  eventId: null,
  occurredAtMs: 0,
  data: Buffer.from(JSON.stringify(value)),
  dataValue: value,
  metadata: null,
});

function millisecondsOf(set: FilterSet, value: unknown): number {
  const content = contentOf(value);
  set.matches(new FilteredEvent(content));
  const before = performance.now();
  set.matches(new FilteredEvent(content));
  return performance.now() - before;
}

/** a and b in no order: what makes an engine with states make ever new ones. */
const mixed = (() => {
  let seed = 12_345;
  let text = '';
  for (let at = 0; at < MEGABYTE; at += 1) {
    seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
    text += (seed >> 16) & 1 ? 'a' : 'b';
  }
  return text;
})();

describe('regular expressions on a megabyte', () => {
  // Some of these take a backtracking engine longer than the universe has. The bound leaves room for a busy machine.
  it.each([
    '(a+)+$',
    '(a|aa)+$',
    '(.*a){15}c',
    '(a?){20}a{20}c',
    '[ab]*a[ab]{40}$',
    '(x|y|a|b)*a(a|b){20}c',
    '^(([a-z])+.)+[A-Z]([a-z])+$',
    '(a|b|ab)*c',
  ])('%s is judged within the blink of an eye', (pattern) => {
    const set = setOf({ field_path: 'text', operator: 'matches', value: pattern });
    for (const text of [mixed, 'a'.repeat(MEGABYTE), `${'ab'.repeat(MEGABYTE / 2)}c`]) {
      expect(millisecondsOf(set, { text })).toBeLessThan(500);
    }
  });

  it('reads the beginning of a long text, and not what comes after so much', () => {
    const set = setOf({ field_path: 'texts.*', operator: 'matches', value: 'needle' });
    const judge = (...texts: string[]) => set.matches(new FilteredEvent(contentOf({ texts })));
    expect(judge(`${'-'.repeat(4_090)}needle`)).toBe(true);
    expect(judge(`${'-'.repeat(4_091)}needle`)).toBe(false);
    expect(judge('-'.repeat(4_000), 'needle')).toBe(true);
    expect(judge('-'.repeat(4_096), 'needle')).toBe(false);
  });
});

describe('what else may be large', () => {
  const value = 'ß'.repeat(500);
  it.each<[string, Omit<Filter, 'case_sensitive'>, unknown]>([
    ['a text', { field_path: 'x', operator: 'contains', value }, { x: mixed }],
    ['a text of letters that grow', { field_path: 'x', operator: 'contains', value }, { x: 'ß'.repeat(MEGABYTE / 2) }],
    ['an array', { field_path: 'x.*', operator: 'equals', value }, { x: Array(MEGABYTE / 2).fill(1) }],
    ['an array to look into', { field_path: 'x', operator: 'contains', value }, { x: Array(MEGABYTE / 2).fill(1) }],
    ['arrays in arrays', { field_path: 'x.*.*.*', operator: 'exists' }, { x: Array(MEGABYTE / 4).fill([[]]) }],
    [
      'a list of values for each element',
      { field_path: 'x.*', operator: 'in', value: Array(100).fill('b'.repeat(1_000)) },
      { x: Array(10_000).fill('a'.repeat(90)) },
    ],
    ['a number', { field_path: 'x', operator: 'equals', value: '9'.repeat(1_024) }, { x: `1${'0'.repeat(1_000_000)}` }],
  ])('%s', (_name, filter, data) => {
    expect(millisecondsOf(setOf(...Array(20).fill(filter)), data)).toBeLessThan(1_500);
  });

  it('a number of a megabyte', () => {
    const data = Buffer.from(`{"x":1${'0'.repeat(1_000_000)}}`);
    const set = setOf(...Array(20).fill({ field_path: 'x', operator: 'greater_than', value: '9'.repeat(1_000) }));
    const before = performance.now();
    expect(set.matches(new FilteredEvent({ ...contentOf(null), data, dataValue: undefined }))).toBe(true);
    expect(performance.now() - before).toBeLessThan(500);
  });

  it('of a path with * the first 10,000 values are there', () => {
    const set = setOf({ field_path: 'x.*', operator: 'equals', value: 1 });
    const judge = (at: number) => set.matches(new FilteredEvent(contentOf({ x: Array(20_000).fill(0).with(at, 1) })));
    expect(judge(9_900)).toBe(true);
    expect(judge(10_000)).toBe(false);
  });
});

describe('chooseTargets', () => {
  const all = { filter: null };
  const yes = { filter: setOf({ field_path: 'x', operator: 'exists' }) };
  const no = { filter: setOf({ field_path: 'y', operator: 'exists' }) };

  it('gives the same list back where nobody has a filter, and touches nothing of the event', () => {
    const subscribed = [all, all];
    const untouchable = new Proxy({} as ReturnType<typeof contentOf>, {
      get: () => {
        throw new Error('looked at');
      },
    });
    const chosen = chooseTargets(subscribed, untouchable) as Chosen<typeof all>;
    expect(chosen.wanted).toBe(subscribed);
    expect(chosen.filtered).toEqual([]);
  });

  it('keeps the order, and tells whose filters keep it from them', () => {
    const chosen = chooseTargets([all, no, yes, all, no], contentOf({ x: 1 }));
    expect(chosen).toMatchObject({ wanted: [all, yes, all], filtered: [no, no] });
    expect(chooseTargets([no], contentOf({ x: 1 }))).toMatchObject({ wanted: [], filtered: [no] });
  });

  it('lets others have their turn while many costly filters are asked', async () => {
    const costly = { filter: setOf({ field_path: 'x', operator: 'matches', value: '[ab]*a[ab]{40}$' }) };
    let done = false;
    let longest = 0;
    let last = performance.now();
    let turns = 0;
    const watch = () => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
      turns += 1;
      if (!done) setImmediate(watch);
    };
    setImmediate(watch);
    const subscribed = [all, ...Array(50).fill(costly), yes, no];
    const [chosen] = await Promise.all(
      Array.from({ length: 10 }, (_, n) => chooseTargets(subscribed, contentOf({ x: mixed.slice(n) }))),
    );
    done = true;
    if (chosen === undefined) throw new Error('nothing was chosen');
    expect(chosen.wanted.length + chosen.filtered.length).toBe(53);
    expect(chosen.filtered.at(-1)).toBe(no);
    expect(turns).toBeGreaterThan(50);
    // One of them has 500 patterns to ask, and a turn that took a stretch of each would have ten.
    expect(longest).toBeLessThan(500);
  });
});
