import type { Database } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';
import { type Figures, figuresOf } from './figures.ts';
import { type CountsQuery, readCounts } from './read-counts.ts';
import { beginningOf, rangesOf } from './series.ts';

export type { Figures } from './figures.ts';
export { countDeadLetters, type Queue, readQueue } from './queue.ts';

export interface Window {
  /** It reaches so far back, to the beginning of a minute: 60 takes in the minute before the running one. At most two days. */
  seconds: number;
  nowMs: number;
}

/** What became of the attempts of the last while: of an environment, or of some webhooks of it together. */
export async function readWindow(
  db: Database,
  scope: Scope,
  window: Window,
  only: { webhookIds?: readonly string[] } = {},
): Promise<Figures> {
  const counts = await readCounts(db, scope, { ...only, ranges: rangesOfWindow(window) });
  return figuresOf(counts.get('') ?? new Map());
}

/** The same for each of some webhooks, by id; those without an attempt are left out. */
export async function readWindowByWebhook(
  db: Database,
  scope: Scope,
  window: Window,
  webhookIds: readonly string[],
): Promise<Map<string, Figures>> {
  const counts = await readCounts(db, scope, { webhookIds, ranges: rangesOfWindow(window), by: 'webhook' });
  return new Map([...counts].map(([webhookId, seen]) => [webhookId, figuresOf(seen)]));
}

function rangesOfWindow({ seconds, nowMs }: Window): CountsQuery['ranges'] {
  const sinceMs = beginningOf('minute', nowMs - seconds * 1_000);
  return rangesOf(sinceMs, beginningOf('minute', nowMs) + 60_000, nowMs);
}
