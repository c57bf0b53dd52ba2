import type { AnnouncedType } from '../webhooks/announcements.ts';

/** How many events of a kind are told of within a time, which begins with the first of them. */
export interface PaceLimit {
  windowMs: number;
  max: number;
  /** Whether the next event says how many were left out. */
  counts: boolean;
}

/**
 * What may come in floods. Of dead deliveries a hundred a minute are told of for each environment, and that a webhook
 * which comes and goes has recovered once in five minutes; whatever the number of nodes.
 */
export const PACE_LIMITS: Readonly<Partial<Record<AnnouncedType, PaceLimit>>> = {
  'delivery.dead': { windowMs: 60_000, max: 100, counts: true },
  'webhook.recovered': { windowMs: 300_000, max: 1, counts: false },
};

/** What was told lately. */
export interface Pace {
  sinceMs: number;
  told: number;
  omitted: number;
}

/** One more: how many were left out before it, when it is to be told of; undefined when it is left out itself. Counts it. */
export function countOne(pace: Pace, { windowMs, max, counts }: PaceLimit, nowMs: number): number | undefined {
  if (nowMs - pace.sinceMs >= windowMs) {
    pace.sinceMs = nowMs;
    pace.told = 0;
  }
  if (pace.told >= max) {
    if (counts) pace.omitted += 1;
    return undefined;
  }
  const { omitted } = pace;
  pace.told += 1;
  pace.omitted = 0;
  return omitted;
}
