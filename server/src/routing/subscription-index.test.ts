import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSubscriptionIndex, patternsMatching } from './subscription-index.ts';

/** The rule as a person would say it, one pattern and one name at a time. */
function matchesNaively(pattern: string, eventType: string): boolean {
  if (pattern === '*' || pattern === eventType) return true;
  return pattern.endsWith('.*') && eventType.startsWith(pattern.slice(0, -1));
}

const segment = fc.constantFrom('a', 'b', 'ab', 'lead', 'constructor', '__proto__', 'x_1');
const eventType = fc.array(segment, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('.'));
const pattern = fc.oneof(
  eventType,
  eventType.map((name) => `${name}.*`),
  fc.constant('*'),
);

describe('createSubscriptionIndex', () => {
  it('finds exactly the subscriptions that the naive rule finds, each once, in their order', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(pattern, { minLength: 1, maxLength: 4 }), { maxLength: 30 }),
        fc.array(eventType, { minLength: 1, maxLength: 10 }),
        (patternLists, names) => {
          const entries = patternLists.map((events, value) => ({ events, value }));
          const index = createSubscriptionIndex(entries);
          for (const name of [...names, ...names]) {
            const expected = entries.filter((entry) => entry.events.some((p) => matchesNaively(p, name)));
            expect(index.match(name)).toEqual(expected.map((entry) => entry.value));
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('matches a prefix at every depth but neither the bare prefix nor a longer word', () => {
    const index = createSubscriptionIndex([{ events: ['lead.*'], value: 'w' }]);
    expect(index.match('lead.created')).toEqual(['w']);
    expect(index.match('lead.score.changed')).toEqual(['w']);
    expect(index.match('lead')).toEqual([]);
    expect(index.match('leads.created')).toEqual([]);
    expect(index.match('my.lead.created')).toEqual([]);
  });

  it('gives a value once although several of its patterns match or are repeated', () => {
    const index = createSubscriptionIndex([{ events: ['*', 'a.b', 'a.*', 'a.b', '*'], value: 1 }]);
    expect(index.match('a.b')).toEqual([1]);
  });

  it('remembers an answer, so that a second match costs no search', () => {
    const index = createSubscriptionIndex([{ events: ['*'], value: 1 }]);
    expect(index.match('a.b')).toBe(index.match('a.b'));
  });

  it('forgets old answers when publishers invent names without end', () => {
    const index = createSubscriptionIndex([{ events: ['*'], value: 1 }]);
    const first = index.match('name.0');
    for (let n = 1; n < 5_000; n++) index.match(`name.${n}`);
    expect(index.match('name.0')).not.toBe(first);
    expect(index.match('name.0')).toEqual(first);
  });

  it('serves 10,000 subscriptions and a type that all of them want', () => {
    const entries = Array.from({ length: 10_000 }, (_, value) => ({
      events: value % 2 === 0 ? ['*'] : [`group${value}.*`, 'call.started'],
      value,
    }));
    const index = createSubscriptionIndex(entries);
    expect(index.match('call.started')).toEqual(entries.map((entry) => entry.value));
    expect(index.match('group7.x')).toHaveLength(5_001);
    expect(index.match('other')).toHaveLength(5_000);
  });
});

describe('patternsMatching', () => {
  it('names every pattern that the naive rule accepts and no other', () => {
    fc.assert(
      fc.property(eventType, pattern, (name, candidate) => {
        expect(patternsMatching(name).includes(candidate)).toBe(matchesNaively(candidate, name));
      }),
    );
  });
});
