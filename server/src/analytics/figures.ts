import { BUCKETS, CLASSES, KEYS } from '../delivery/attempt-codes.ts';
import type { ErrorClass } from '../delivery/outcome.ts';

/** How often each key was seen (`delivery/attempt-codes.ts`). */
export type Counts = ReadonlyMap<number, number>;

/** What analytics say of a group of attempts. */
export interface Figures {
  attempts: number;
  /** Attempts that delivered. */
  delivered: number;
  /** Attempts that did not. */
  failed: number;
  /** Deliveries that ended dead. */
  dead: number;
  /** Percent of ended deliveries (delivered or dead) that were delivered; null: none ended. */
  successRate: number | null;
  /** Percent of attempts that failed; null: there was none. */
  failureRate: number | null;
  /** Of the attempts that were answered, or waited for an answer until their timeout. Null: there was none. */
  responseTime: { averageMs: number; p50Ms: number; p95Ms: number; p99Ms: number } | null;
  /** `2xx` to `5xx`, and `none` where no answer came. */
  byStatusClass: Record<string, number>;
  /** Failed attempts; only the classes that there were. */
  byErrorClass: Record<string, number>;
  /** Answers by their status; only those that there were. */
  byStatus: Record<string, number>;
  /** Failed attempts by class and status, the most frequent first; status null: no answer came. */
  failures: { errorClass: ErrorClass; status: number | null; attempts: number }[];
}

/** Makes figures of counts. */
export function figuresOf(counts: Counts): Figures {
  const byStatusClass: Record<string, number> = { '2xx': 0, '3xx': 0, '4xx': 0, '5xx': 0, other: 0, none: 0 };
  const byErrorClass: Record<string, number> = {};
  const byStatus: Record<string, number> = {};
  const failures: Figures['failures'] = [];
  let [attempts, delivered] = [0, 0];
  for (const [key, count] of counts) {
    if (key < KEYS.results) continue;
    const { errorClass, status } = resultOf(key);
    attempts += count;
    add(byStatusClass, statusClassOf(status), count);
    if (status !== null) add(byStatus, String(status), count);
    if (errorClass === null) delivered += count;
    else {
      add(byErrorClass, errorClass, count);
      failures.push({ errorClass, status, attempts: count });
    }
  }
  failures.sort((one, other) => other.attempts - one.attempts);
  const dead = counts.get(KEYS.dead) ?? 0;
  return {
    attempts,
    delivered,
    failed: attempts - delivered,
    dead,
    successRate: percent(delivered, delivered + dead),
    failureRate: percent(attempts - delivered, attempts),
    responseTime: responseTimeOf(counts),
    byStatusClass,
    byErrorClass,
    byStatus,
    failures,
  };
}

/** With two decimals; null when there is nothing to have a share of. */
export function percent(part: number, whole: number): number | null {
  return whole === 0 ? null : Math.round((part / whole) * 10_000) / 100;
}

/** Adds up several. */
export function sumOf(all: Iterable<Counts>): Counts {
  const sum = new Map<number, number>();
  for (const counts of all) for (const [key, count] of counts) sum.set(key, (sum.get(key) ?? 0) + count);
  return sum;
}

function resultOf(key: number): { errorClass: ErrorClass | null; status: number | null } {
  const result = key - KEYS.results;
  const status = result % KEYS.ofClass;
  const place = Math.floor(result / KEYS.ofClass);
  const errorClass = place === 0 ? null : (CLASSES[place] ?? 'internal');
  return { errorClass, status: status === 0 ? null : status };
}

function statusClassOf(status: number | null): string {
  if (status === null) return 'none';
  return status >= 200 && status < 600 ? `${Math.floor(status / 100)}xx` : 'other';
}

function add(record: Record<string, number>, name: string, count: number): void {
  record[name] = (record[name] ?? 0) + count;
}

function responseTimeOf(counts: Counts): Figures['responseTime'] {
  const buckets = [...counts].filter(([key]) => key > 0 && key < KEYS.results).sort(([one], [other]) => one - other);
  const timed = buckets.reduce((sum, [, count]) => sum + count, 0);
  if (timed === 0) return null;
  return {
    averageMs: Math.round((counts.get(KEYS.durationMs) ?? 0) / timed),
    p50Ms: quantile(buckets, timed, 0.5),
    p95Ms: quantile(buckets, timed, 0.95),
    p99Ms: quantile(buckets, timed, 0.99),
  };
}

/** The duration that a share of all is not above (nearest rank): the middle of its bucket, 2.5 % from the exact one at most. */
function quantile(buckets: [number, number][], all: number, share: number): number {
  const rank = Math.max(1, Math.ceil(share * all));
  let below = 0;
  for (const [bucket, count] of buckets) {
    below += count;
    if (below >= rank) return middleOf(bucket);
  }
  return middleOf(buckets.at(-1)?.[0] ?? 1);
}

function middleOf(bucket: number): number {
  const least = BUCKETS[bucket - 1] ?? 0;
  const greatest = (BUCKETS[bucket] ?? least + 1) - 1;
  return Math.floor((least + greatest) / 2);
}
