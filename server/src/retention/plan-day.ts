import type { Retention } from '../tenants/retention.ts';

const DAY_MS = 86_400_000;

/** How long records of each environment are kept, by its id. */
export type Retentions = ReadonlyMap<string, Retention>;

/**
 * What is due of a day: all of it goes as a whole table, or some environments' rows go, or nothing does. `blank`: these
 * environments' events stay and lose what they carried.
 */
export interface DayPlan {
  attempts: 'drop' | readonly string[];
  /** Events with their deliveries and dead letters. */
  events: 'drop' | readonly string[];
  blank: readonly string[];
}

/**
 * Decides for a day that began at `dayMs`. Its age counts from its end, so nothing goes early. Of an environment that is
 * not there any more (its id is in none of `retentions`) everything is due; it keeps no day from being dropped.
 *
 * @param present environments with rows of that day, of each kind of table.
 */
export function planDay(
  dayMs: number,
  nowMs: number,
  retentions: Retentions,
  present: { attempts: readonly string[]; events: readonly string[] },
): DayPlan {
  const isOver = (days: number) => dayMs + DAY_MS + days * DAY_MS <= nowMs;
  const overFor = (kind: keyof Retention) => (environmentId: string) => {
    const retention = retentions.get(environmentId);
    return retention === undefined ? isOver(0) : isOver(retention[kind]);
  };
  const overForAll = (kind: keyof Retention) =>
    [...retentions.values()].every((retention) => isOver(retention[kind])) && isOver(1);
  const attempts = overForAll('attempt_days') ? 'drop' : present.attempts.filter(overFor('attempt_days'));
  if (overForAll('event_days')) return { attempts, events: 'drop', blank: [] };
  const events = present.events.filter(overFor('event_days'));
  return {
    attempts,
    events,
    blank: present.events.filter((id) => !events.includes(id) && overFor('payload_days')(id)),
  };
}

/** Environments with audit entries of before this time have kept them for long enough. */
export function auditKeptSince(retention: Retention, nowMs: number): number {
  return nowMs - retention.audit_days * DAY_MS;
}
