import { DAY_MS, type DayPartition } from '../db/partitions.ts';
import { firstIdAt } from '../kernel/ids.ts';
import type { IdRange } from './statements.ts';

/** A day's partitions, those of them that there are. */
export interface Day {
  dayMs: number;
  range: IdRange;
  attempts?: DayPartition | undefined;
  deliveries?: DayPartition | undefined;
  events?: DayPartition | undefined;
}

/** The days of partitions, the oldest first. */
export function daysOf(partitions: readonly DayPartition[]): Day[] {
  const days = new Map<number, Day>();
  for (const partition of partitions) {
    const { dayMs, table } = partition;
    const range = { from: firstIdAt(dayMs), to: firstIdAt(dayMs + DAY_MS) };
    const day = days.get(dayMs) ?? { dayMs, range };
    day[table] = partition;
    days.set(dayMs, day);
  }
  return [...days.values()].sort((one, other) => one.dayMs - other.dayMs);
}
