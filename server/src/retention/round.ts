import type pg from 'pg';
import { changeText, NOTIFY_SQL } from '../db/notify.ts';
import { DAY_MS, type DayPartition, dropPartition, listPartitions } from '../db/partitions.ts';
import { errorCode } from '../db/pool.ts';
import { vacuumErased } from '../db/vacuum.ts';
import { firstIdAt } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import { cursorOf, forgetCursors, keepCursor } from './cursors.ts';
import { type Day, daysOf } from './days.ts';
import type { Pace } from './pace.ts';
import { planDay, type Retentions } from './plan-day.ts';
import { readRetentions } from './read-retentions.ts';
import {
  blankPayloads,
  dayIsNeeded,
  environmentsIn,
  environmentsWaitingIn,
  type Looked,
  removeAttempts,
  removeDeadLetters,
  removeDeliveries,
  removeEvents,
  type Scope,
  unparkKeysOf,
} from './statements.ts';

export interface RoundOptions {
  /** A connection of the round's own, in no transaction. */
  client: pg.ClientBase;
  nowMs: number;
  pace: Pace;
  logger: Logger;
  /** Removes the audit entries of a tenant that are older, and keeps the chain of the others whole. Gives their number. */
  removeAuditBefore: (tenantId: string, beforeMs: number) => Promise<number>;
}

/** What a round has done. */
export interface RoundReport {
  /** Names of the partitions that were dropped. */
  dropped: string[];
  blankedPayloads: number;
  removedEvents: number;
  removedDeliveries: number;
  removedAttempts: number;
  removedAuditEntries: number;
  /** Rows left as they are because a delivery still waits. */
  spared: number;
}

/** The session lock of the one node that is at it. */
const RETENTION_LOCK = 7_678_004;

/**
 * Removes what has been kept for long enough, day by day from the oldest on: a whole day as a table where the time of all
 * environments is over, else the rows of those whose time is over, a few at a time. Gives undefined when another node is
 * at it. Cut short it goes on in the next round: rows that are gone are not met again, and how far payloads are blanked is
 * on record.
 */
export async function runRound(options: RoundOptions): Promise<RoundReport | undefined> {
  const { client } = options;
  const locked = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [RETENTION_LOCK]);
  if (locked.rows[0]?.locked !== true) return undefined;
  try {
    return await new Round(options).run();
  } finally {
    await client.query('SELECT pg_advisory_unlock($1)', [RETENTION_LOCK]);
  }
}

class Round {
  readonly #options: RoundOptions;
  readonly #client: pg.ClientBase;
  readonly #report: RoundReport = {
    dropped: [],
    blankedPayloads: 0,
    removedEvents: 0,
    removedDeliveries: 0,
    removedAttempts: 0,
    removedAuditEntries: 0,
    spared: 0,
  };
  #retentions: Retentions = new Map();

  constructor(options: RoundOptions) {
    this.#options = options;
    this.#client = options.client;
  }

  async run(): Promise<RoundReport> {
    const { retentions, auditedSince } = await readRetentions(this.#client, this.#options.nowMs);
    this.#retentions = retentions;
    const partitions = await listPartitions(this.#client);
    for (const partition of partitions.filter(({ state }) => state !== 'attached')) await this.#drop(partition);
    const days = daysOf(partitions.filter(({ state }) => state === 'attached'));
    for (const day of days) {
      if (this.#options.pace.stopped) break;
      if (day.dayMs + DAY_MS <= this.#options.nowMs) await this.#day(day, days);
    }
    for (const [tenantId, beforeMs] of auditedSince) {
      if (this.#options.pace.stopped) break;
      this.#report.removedAuditEntries += await this.#options.removeAuditBefore(tenantId, beforeMs);
    }
    return this.#report;
  }

  async #day(day: Day, days: readonly Day[]): Promise<void> {
    const { attempts, deliveries, events } = day;
    const ofAttempts = attempts === undefined ? [] : await this.#environmentsIn(attempts);
    const ofDeliveries = deliveries === undefined ? [] : await this.#environmentsIn(deliveries);
    const ofEvents = events === undefined ? [] : await this.#environmentsIn(events);
    const scopes = new Map([...ofAttempts, ...ofDeliveries, ...ofEvents].map((scope) => [scope.environmentId, scope]));
    const idsOf = (found: readonly Scope[]) => [...new Set(found.map(({ environmentId }) => environmentId))];
    const plan = planDay(day.dayMs, this.#options.nowMs, this.#retentions, {
      attempts: idsOf(ofAttempts),
      events: idsOf([...ofDeliveries, ...ofEvents]),
    });
    const scopesOf = (ids: readonly string[]) => ids.map((id) => scopes.get(id)).filter((scope) => scope !== undefined);

    if (attempts !== undefined) {
      if (plan.attempts === 'drop') await this.#drop(attempts);
      else await this.#removeAttempts(attempts, scopesOf(plan.attempts));
    }
    const next = days.find(({ dayMs }) => dayMs === day.dayMs + DAY_MS)?.deliveries;
    if (plan.events !== 'drop') {
      await this.#removeEvents(day, next, scopesOf(plan.events));
      await this.#blank(day, next, scopesOf(plan.blank));
    } else if (await this.#isNeeded(day, next)) {
      await this.#removeEvents(day, next, [...scopes.values()]);
    } else {
      await this.#dropEvents(day, ofDeliveries);
    }
  }

  #environmentsIn({ name }: DayPartition): Promise<Scope[]> {
    return this.#options.pace.step(() => environmentsIn(this.#client, name));
  }

  async #isNeeded({ deliveries, range }: Day, next: DayPartition | undefined): Promise<boolean> {
    for (const partition of [deliveries, next]) {
      if (partition !== undefined && (await dayIsNeeded(this.#client, partition.name, range))) return true;
    }
    return false;
  }

  async #dropEvents({ dayMs, deliveries, events, range }: Day, ofDeliveries: readonly Scope[]): Promise<void> {
    const told = deliveries === undefined ? [] : await environmentsWaitingIn(this.#client, deliveries.name);
    for (const scope of ofDeliveries) {
      await this.#repeat((_, rows) => removeDeadLetters(this.#client, scope, range, rows));
    }
    if (deliveries !== undefined) await this.#drop(deliveries);
    if (events !== undefined) await this.#drop(events);
    told.push(...(await unparkKeysOf(this.#client, range, undefined)));
    await this.#tell(told);
    await forgetCursors(this.#client, dayMs);
  }

  async #drop(partition: DayPartition): Promise<void> {
    if (this.#options.pace.stopped) return;
    try {
      await this.#options.pace.step(() => dropPartition(this.#client, partition));
      this.#report.dropped.push(partition.name);
    } catch (error) {
      // Somebody holds the day, as a backup does: the next round goes on where this one stopped.
      this.#options.logger.warn(
        { partition: partition.name, code: errorCode(error) },
        'a day could not be dropped yet',
      );
    }
  }

  async #removeAttempts({ name }: DayPartition, scopes: readonly Scope[]): Promise<void> {
    let changed = 0;
    for (const scope of scopes) {
      changed += (await this.#repeat((_, rows) => removeAttempts(this.#client, name, scope, rows))).changed;
    }
    this.#report.removedAttempts += changed;
    if (changed > 0) await this.#vacuum(name);
  }

  /** Deliveries before their events, so that no event goes of which a delivery is still there. */
  async #removeEvents(day: Day, next: DayPartition | undefined, scopes: readonly Scope[]): Promise<void> {
    const { deliveries, events, range } = day;
    let removedDeliveries = 0;
    let removedEvents = 0;
    for (const scope of scopes) {
      if (deliveries !== undefined) {
        const { name } = deliveries;
        const done = await this.#repeat((cursor, rows) => removeDeliveries(this.#client, name, scope, cursor, rows));
        removedDeliveries += done.changed;
        // What waited behind one of them in an order goes on.
        const told = await unparkKeysOf(this.#client, range, scope);
        await this.#tell(done.changed > 0 ? [scope] : told);
      }
      if (events !== undefined) {
        const partitions = { events: events.name, deliveries: namesOf([deliveries, next]) };
        const done = await this.#repeat((cursor, rows) => removeEvents(this.#client, partitions, scope, cursor, rows));
        removedEvents += done.changed;
        this.#report.spared += done.spared;
      }
    }
    this.#report.removedDeliveries += removedDeliveries;
    this.#report.removedEvents += removedEvents;
    if (removedDeliveries > 0 && deliveries !== undefined) await this.#vacuum(deliveries.name);
    if (removedEvents > 0 && events !== undefined) await this.#vacuum(events.name);
  }

  async #blank(day: Day, next: DayPartition | undefined, scopes: readonly Scope[]): Promise<void> {
    const { events, deliveries } = day;
    if (events === undefined) return;
    let changed = 0;
    for (const scope of scopes) {
      const begun = await cursorOf(this.#client, scope, day.dayMs, this.#options.nowMs);
      if (begun === undefined) continue;
      const partitions = { events: events.name, deliveries: namesOf([deliveries, next]) };
      const done = await this.#repeat(async (cursor, rows) => {
        const looked = await this.#inTransaction(async () => {
          const step = await blankPayloads(this.#client, partitions, scope, cursor, rows);
          await keepCursor(this.#client, scope, day.dayMs, this.#options.nowMs, step);
          return step;
        });
        return looked;
      }, begun);
      changed += done.changed;
      this.#report.spared += done.spared;
    }
    this.#report.blankedPayloads += changed;
    if (changed > 0) await this.#vacuum(events.name);
  }

  async #inTransaction<T>(work: () => Promise<T>): Promise<T> {
    await this.#client.query('BEGIN');
    try {
      const result = await work();
      await this.#client.query('COMMIT');
      return result;
    } catch (error) {
      await this.#client.query('ROLLBACK');
      throw error;
    }
  }

  /** Steps until there is nothing more to look at, or the node stops. */
  async #repeat(
    step: (cursor: string, rows: number) => Promise<Looked>,
    from = firstIdAt(0),
  ): Promise<{ changed: number; spared: number }> {
    const sum = { changed: 0, spared: 0 };
    for (let cursor: string | undefined = from; cursor !== undefined && !this.#options.pace.stopped; ) {
      const at: string = cursor;
      const looked: Looked = await this.#options.pace.step((rows) => step(at, rows));
      sum.changed += looked.changed;
      sum.spared += looked.spared;
      cursor = looked.cursor;
    }
    return sum;
  }

  /** Nothing else would: an old day has no more writes that its own vacuum would wait for. */
  async #vacuum(partition: string): Promise<void> {
    if (this.#options.pace.stopped) return;
    await vacuumErased(this.#client, [partition], true);
  }

  async #tell(scopes: readonly Scope[]): Promise<void> {
    const told = new Map(scopes.map((scope) => [scope.environmentId, scope]));
    for (const scope of told.values()) {
      await this.#client.query(NOTIFY_SQL, [changeText({ topic: 'deliveries_cancelled', ...scope, deliveryIds: [] })]);
    }
  }
}

function namesOf(partitions: readonly (DayPartition | undefined)[]): string[] {
  return partitions.flatMap((partition) => (partition === undefined ? [] : [partition.name]));
}
