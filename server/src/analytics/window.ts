import type { Database } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';
import { type Counts, type Figures, figuresOf } from './figures.ts';
import { type CountsQuery, readCounts } from './read-counts.ts';
import { beginningOf, rangesOf } from './series.ts';

export type { Figures } from './figures.ts';
export { countDeadLetters, type Queue, readQueue } from './queue.ts';

export interface Window {
  /** It reaches so far back, to the beginning of a minute: 60 takes in the minute before the running one. At most two days. */
  seconds: number;
  nowMs: number;
}

/**
 * What became of the attempts of the last while: of an environment, or of some webhooks of it together. `without`: events
 * of these types do not count.
 */
export async function readWindow(
  db: Database,
  scope: Scope,
  window: Window,
  only: { webhookIds?: readonly string[]; without?: readonly string[] } = {},
): Promise<Figures> {
  const { without = [], ...of } = only;
  const counts = await readWithout(db, scope, { ...of, ranges: rangesOfWindow(window) }, without);
  return figuresOf(counts.get('') ?? new Map());
}

/** The same for each of some webhooks, by id; those without an attempt are left out. */
export async function readWindowByWebhook(
  db: Database,
  scope: Scope,
  window: Window,
  webhookIds: readonly string[],
  without: readonly string[] = [],
): Promise<Map<string, Figures>> {
  const query: CountsQuery = { webhookIds, ranges: rangesOfWindow(window), by: 'webhook' };
  const counts = await readWithout(db, scope, query, without);
  return new Map([...counts].map(([webhookId, seen]) => [webhookId, figuresOf(seen)]));
}

/** What is to be left out is read first: what is counted meanwhile is then in the whole at least. */
async function readWithout(
  db: Database,
  scope: Scope,
  query: CountsQuery,
  eventTypes: readonly string[],
): Promise<Map<string, Counts>> {
  const left: Map<string, Counts>[] = [];
  for (const eventType of eventTypes) left.push(await readCounts(db, scope, { ...query, eventType }));
  const all = await readCounts(db, scope, query);
  for (const some of left) {
    for (const [name, counts] of some) {
      const whole = new Map(all.get(name));
      for (const [key, n] of counts) whole.set(key, (whole.get(key) ?? 0) - n);
      all.set(name, new Map([...whole].filter(([, n]) => n > 0)));
    }
  }
  return all;
}

function rangesOfWindow({ seconds, nowMs }: Window): CountsQuery['ranges'] {
  const sinceMs = beginningOf('minute', nowMs - seconds * 1_000);
  return rangesOf(sinceMs, beginningOf('minute', nowMs) + 60_000, nowMs);
}
