import type pg from 'pg';
import { intArray, textArray, uuidArray } from '../db/binary-arrays.ts';
import type { BinaryRows } from '../db/binary-rows.ts';
import { CopyRows } from '../db/copy-rows.ts';
import { GroupCommit } from '../db/group-commit.ts';
import { partitionOf } from '../db/partitions.ts';
import { runPipeline, type Step } from '../db/pipeline.ts';
import { errorCode, isDatabaseGone } from '../db/pool.ts';
import { RowArray } from '../db/row-array.ts';
import type { DeliveryEngine } from '../delivery/engine.ts';
import type { DeliveryTask } from '../delivery/task.ts';
import type { Clock } from '../kernel/clock.ts';
import { unavailable } from '../kernel/errors.ts';
import type { Logger } from '../kernel/logger.ts';
import { TellingPace } from '../webhooks/telling-pace.ts';
import { claimKeys } from './event-keys.ts';
import type { PlannedDelivery, PreparedEvent, StoredEvent, Submission } from './prepared-event.ts';
import {
  COUNT_FILTERED,
  copyDeliveries,
  copyEvents,
  HOLD_NODE,
  INSERT_ORDERED_DELIVERIES,
  NODE_IS_BURIED,
  TELL_HELD,
} from './sql/store-events.ts';

const COMMIT_EVENTS_MAX = 500;
const COMMITS_AT_ONCE = 2;

/** About as long as a commit takes; publishers wait for it. */
const COMMIT_EVERY_MS = 8;
const COMMIT_BYTES_MAX = 16 * 1024 * 1024;

/**
 * Commits accepted events. Requests that arrive while a commit is under way share the next one; each is answered after
 * its commit, never before.
 */
export class EventWriter {
  readonly #pool: pg.Pool;
  readonly #engine: DeliveryEngine;
  readonly #rows: EventRows;
  readonly #logger: Logger;
  readonly #batches: GroupCommit<Submission>;
  #accepted = 0;
  #filtered = 0;

  constructor(options: { pool: pg.Pool; engine: DeliveryEngine; clock: Clock; logger: Logger }) {
    this.#pool = options.pool;
    this.#engine = options.engine;
    this.#logger = options.logger;
    this.#rows = new EventRows(new TellingPace(options.clock));
    this.#batches = new GroupCommit({
      commit: (submissions) => this.#commit(submissions),
      pace: { clock: options.clock, commits: COMMITS_AT_ONCE, everyMs: COMMIT_EVERY_MS },
      weightMax: COMMIT_EVENTS_MAX,
      weigh: (submission) => submission.events.length + (bytesOf(submission) / COMMIT_BYTES_MAX) * COMMIT_EVENTS_MAX,
    });
  }

  /** Events committed since the start. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Deliveries that filters spared since the start. */
  get filtered(): number {
    return this.#filtered;
  }

  /**
   * Resolves after the commit.
   *
   * @throws AppError 409 when a key was used for another event; 503 when the database did not take the commit.
   */
  store(events: PreparedEvent[]): Promise<StoredEvent[]> {
    return new Promise((resolve, reject) => this.submit({ events, results: [], resolve, reject }));
  }

  /** The same, with callbacks in place of a promise. What they do must not throw. */
  submit(submission: Submission): void {
    this.#batches.add(submission);
  }

  async #commit(submissions: Submission[]): Promise<void> {
    const commitState = { sent: false };
    try {
      const keyed = submissions.some(({ events }) => events.some((event) => event.keys.length > 0));
      const refused = keyed
        ? await this.#writeKeyed(submissions, commitState)
        : await this.#write(submissions, commitState);
      const stored = submissions.filter((submission) => !refused.has(submission));
      this.#stored(stored);
      // One after the other, with nothing between them: whoever publishes on many connections is woken once.
      for (const { results, resolve } of stored) resolve(results);
      for (const [submission, error] of refused) this.#refused(submission, error, false);
    } catch (error) {
      await this.#failed(submissions, error, commitState.sent);
    }
  }

  async #write(submissions: Submission[], state: { sent: boolean }): Promise<Map<Submission, unknown>> {
    const events = submissions.flatMap((submission) => submission.events);
    for (const submission of submissions) submission.results = submission.events.map(() => STORED);
    state.sent = true;
    await this.#insert(events, this.#pool);
    return NOTHING_REFUSED;
  }

  async #insert(events: PreparedEvent[], connection: pg.Pool | pg.PoolClient): Promise<void> {
    try {
      await runPipeline(connection, 'store-events', this.#rows.stepsFor(events, this.#engine.nodeId));
    } catch (error) {
      if (errorCode(error) !== NODE_IS_BURIED) throw error;
      throw unavailable('This process was taken for dead; it is joining again.', 1, error);
    }
  }

  async #writeKeyed(submissions: Submission[], state: { sent: boolean }): Promise<Map<Submission, unknown>> {
    const client = await this.#pool.connect();
    let broken: Error | undefined;
    try {
      await client.query('BEGIN');
      const refused = await claimKeys(client, submissions);
      const events = submissions
        .filter((submission) => !refused.has(submission))
        .flatMap(({ events, results }) => events.filter((_, at) => results[at]?.kind === 'stored'));
      if (events.length > 0) await this.#insert(events, client);
      state.sent = true;
      await client.query('COMMIT');
      return refused;
    } catch (error) {
      broken = error instanceof Error ? error : new Error('the commit failed');
      throw error;
    } finally {
      // A connection with an open transaction is not given back: closing it undoes the transaction.
      client.release(broken);
    }
  }

  #stored(submissions: Submission[]): void {
    const leased: DeliveryTask[] = [];
    let filtered = 0;
    for (const { events, results } of submissions) {
      for (const [at, prepared] of events.entries()) {
        if (results[at]?.kind === 'stored') {
          this.#accepted += 1;
          filtered += prepared.filtered.length;
          this.#handOver(prepared, leased);
        } else {
          this.#engine.release(leasedTasks(prepared), false);
        }
      }
    }
    this.#engine.accept(leased);
    if (filtered > 0) {
      this.#filtered += filtered;
      this.#engine.counted();
    }
  }

  #handOver({ deliveries }: PreparedEvent, leased: DeliveryTask[]): void {
    for (const { place, task, dueAtMs } of deliveries) {
      if (place === 'leased') leased.push(task);
      else if (place === 'waiting' && dueAtMs !== null) this.#engine.expect(task, dueAtMs);
    }
  }

  #refused({ events, reject }: Submission, error: unknown, commitUnknown: boolean): void {
    for (const prepared of events) this.#engine.release(leasedTasks(prepared), commitUnknown);
    reject(error);
  }

  async #failed(submissions: Submission[], error: unknown, commitSent: boolean): Promise<void> {
    const gone = isDatabaseGone(error);
    this.#logger.error({ code: errorCode(error), requests: submissions.length }, 'a commit of events failed');
    if (!gone && submissions.length > 1) {
      // The database refused something in one of the requests; the others must not suffer for it.
      for (const submission of submissions) await this.#commit([submission]);
      return;
    }
    const answer = gone ? unavailable(commitSent ? COMMIT_UNKNOWN : NOT_COMMITTED, 2, error) : error;
    for (const submission of submissions) this.#refused(submission, answer, commitSent);
  }
}

const NOT_COMMITTED = 'The database is out of reach; nothing was accepted.';
const COMMIT_UNKNOWN =
  'The database was lost in the middle of a commit; whether anything was accepted is not known. The same event_id or Idempotency-Key makes it safe to ask again.';

const STORED: StoredEvent = { kind: 'stored' };
const NOTHING_REFUSED = new Map<Submission, unknown>();

function leasedTasks(prepared: PreparedEvent) {
  return prepared.deliveries.filter(({ place }) => place === 'leased').map(({ task }) => task);
}

function isLeased({ place }: PlannedDelivery): boolean {
  return place === 'leased' || place === 'test';
}

function bytesOf({ events }: Submission): number {
  let bytes = 0;
  for (const { event } of events) bytes += event.data.length;
  return bytes;
}

/** How many of the events were kept from each webhook. Ids of webhooks are unique, also between tenants. */
function filteredCounts(prepared: readonly PreparedEvent[]): Buffer[] {
  const counts = new Map<string, { tenantId: string; count: number }>();
  for (const { tenantId, filtered } of prepared) {
    for (const webhookId of filtered) {
      const known = counts.get(webhookId);
      if (known === undefined) counts.set(webhookId, { tenantId, count: 1 });
      else known.count += 1;
    }
  }
  const values = [...counts.values()];
  return [
    uuidArray(values.map(({ tenantId }) => tenantId)),
    uuidArray([...counts.keys()]),
    intArray(values.map(({ count }) => count)),
  ];
}

function toldOf(tasks: readonly DeliveryTask[]): Buffer[] {
  return [
    uuidArray(tasks.map(({ tenantId }) => tenantId)),
    uuidArray(tasks.map(({ environmentId }) => environmentId)),
    uuidArray(tasks.map(({ id }) => id)),
    uuidArray(tasks.map(({ event }) => event.uuid)),
    uuidArray(tasks.map(({ webhookId }) => webhookId)),
    textArray(tasks.map(({ event }) => event.type)),
  ];
}

/** Writes events and their deliveries as the statements take them. */
class EventRows {
  readonly #events = new CopyRows(13);
  readonly #deliveries = new CopyRows(13);
  readonly #ordered = new RowArray(12);
  readonly #telling: TellingPace;

  constructor(telling: TellingPace) {
    this.#telling = telling;
  }

  stepsFor(prepared: PreparedEvent[], nodeId: number): Step[] {
    this.#events.reset();
    this.#deliveries.reset();
    this.#ordered.reset();
    const eventIds: string[] = [];
    const deliveryIds: string[] = [];
    let leases = false;
    let filters = false;
    const held: DeliveryTask[] = [];
    for (const event of prepared) {
      filters ||= event.filtered.length > 0;
      this.#addEvent(event);
      eventIds.push(event.event.uuid);
      for (const delivery of event.deliveries) {
        const leased = isLeased(delivery);
        leases ||= leased;
        if (delivery.place === 'held' && this.#telling.takes(event.environmentId)) held.push(delivery.task);
        if (delivery.ordered) {
          this.#addDelivery(this.#ordered, delivery, leased ? nodeId : null);
          continue;
        }
        this.#addDelivery(this.#deliveries, delivery, leased ? nodeId : null);
        this.#deliveries.int(0);
        deliveryIds.push(delivery.task.id);
      }
    }
    const steps: Step[] = [{ ...copyEvents(partitionOf('events', eventIds)), rows: this.#events.finish() }];
    if (deliveryIds.length > 0) {
      steps.push({ ...copyDeliveries(partitionOf('deliveries', deliveryIds)), rows: this.#deliveries.finish() });
    }
    if (this.#ordered.count > 0) steps.push({ ...INSERT_ORDERED_DELIVERIES, values: [this.#ordered.finish()] });
    if (filters) steps.push({ ...COUNT_FILTERED, values: filteredCounts(prepared) });
    if (held.length > 0) steps.push({ ...TELL_HELD, values: toldOf(held) });
    if (leases) steps.unshift({ ...HOLD_NODE, values: [String(nodeId)] });
    return steps;
  }

  #addEvent(prepared: PreparedEvent): void {
    const row = this.#events;
    const { event } = prepared;
    row.row();
    row.sameUuid(0, prepared.tenantId);
    row.sameUuid(1, prepared.environmentId);
    row.uuid(event.uuid);
    row.text(prepared.externalId);
    row.text(event.type);
    row.timestamp(prepared.occurredAtMs);
    row.bytes(event.data);
    row.bytes(event.metadata);
    row.text(prepared.orderingKey);
    row.smallint(prepared.priority);
    row.timestamp(prepared.deliverAtMs);
    row.int(prepared.deliveries.length);
    row.boolean(prepared.isTest);
  }

  #addDelivery(row: BinaryRows, { task, place, dueAtMs }: PlannedDelivery, leaseNode: number | null): void {
    row.row();
    row.sameUuid(0, task.tenantId);
    row.sameUuid(1, task.environmentId);
    row.uuid(task.id);
    row.uuid(task.event.uuid);
    row.sameUuid(2, task.webhookId);
    row.text(task.event.type);
    row.text(place === 'held' ? 'held' : 'pending');
    row.text(task.trigger);
    row.smallint(task.priority);
    row.text(task.orderingKey);
    row.timestamp(place === 'held' ? Number.POSITIVE_INFINITY : dueAtMs);
    row.int(leaseNode);
  }
}
