/** One subscriber: the patterns it asked for, and whatever stands for it. */
export interface Subscription<T> {
  /** Exact event type names, `*`, or prefix patterns such as `lead.*`. */
  events: readonly string[];
  value: T;
}

export interface SubscriptionIndex<T> {
  /** The values subscribed to an event type, each once, in the order they were given. The array is shared: do not change it. */
  match(eventType: string): readonly T[];
}

/**
 * Finds who is subscribed to an event type. It is built once for a set of subscriptions and never changes.
 *
 * The cost of a match that is not remembered grows with the number of subscribers that match, not with the number
 * there are; a remembered one is a single map lookup. What is remembered is bounded: at most
 * `MEMO_FLOOR + MEMO_PER_ENTRY x subscriptions` references, whatever names publishers invent.
 */
export function createSubscriptionIndex<T>(entries: Iterable<Subscription<T>>): SubscriptionIndex<T> {
  const values: T[] = [];
  const positionsByPattern = new Map<string, number[]>();
  for (const { events, value } of entries) {
    const position = values.push(value) - 1;
    for (const pattern of new Set(events)) {
      const positions = positionsByPattern.get(pattern);
      if (positions === undefined) positionsByPattern.set(pattern, [position]);
      else positions.push(position);
    }
  }

  const find = (eventType: string): readonly T[] => {
    const found: number[][] = [];
    for (const pattern of patternsMatching(eventType)) {
      const positions = positionsByPattern.get(pattern);
      if (positions !== undefined) found.push(positions);
    }
    return mergeSorted(found).map((position) => values[position] as T);
  };

  const budget = MEMO_FLOOR + MEMO_PER_ENTRY * values.length;
  const memo = new Map<string, readonly T[]>();
  let held = 0;
  return {
    match(eventType) {
      const known = memo.get(eventType);
      if (known !== undefined) return known;
      const matched = find(eventType);
      held += matched.length + 1;
      memo.set(eventType, matched);
      for (const [oldest, dropped] of memo) {
        if (held <= budget) break;
        memo.delete(oldest);
        held -= dropped.length + 1;
      }
      return matched;
    },
  };
}

/**
 * Every pattern that an event type satisfies: its own name, `*`, and `prefix.*` for each prefix that ends before a dot.
 * `a.b.c` satisfies `a.b.c`, `*`, `a.*` and `a.b.*`, and not `a.b.c.*`.
 */
export function patternsMatching(eventType: string): string[] {
  const patterns = eventType === '*' ? ['*'] : [eventType, '*'];
  for (let dot = eventType.indexOf('.'); dot !== -1; dot = eventType.indexOf('.', dot + 1)) {
    const pattern = `${eventType.slice(0, dot)}.*`;
    if (pattern !== eventType) patterns.push(pattern);
  }
  return patterns;
}

/** References that may be remembered however few subscriptions there are. */
const MEMO_FLOOR = 1_024;
const MEMO_PER_ENTRY = 8;

/** Each list rises; the result rises and has each number once. */
function mergeSorted(lists: number[][]): number[] {
  const [first, ...rest] = lists;
  if (first === undefined) return [];
  if (rest.length === 0) return first;
  return [...new Set(lists.flat())].sort((a, b) => a - b);
}
