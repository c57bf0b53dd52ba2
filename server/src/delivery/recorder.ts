import type pg from 'pg';
import { uuidArray } from '../db/binary-arrays.ts';
import { CopyRows } from '../db/copy-rows.ts';
import { GroupCommit } from '../db/group-commit.ts';
import { partitionOf } from '../db/partitions.ts';
import { runPipeline, type Step } from '../db/pipeline.ts';
import { errorCode, isDatabaseGone } from '../db/pool.ts';
import { RowArray } from '../db/row-array.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import type { ErrorClass, Outcome } from './outcome.ts';
import { copyAttempts, FORGET_ATTEMPTS, recordOutcomes, recordSuccesses } from './sql/record-attempts.ts';
import type { DeliveryTask, Trigger } from './task.ts';

/** One attempt, with what it means for its delivery. */
export interface AttemptRecord {
  task: DeliveryTask;
  /** UUID of the attempt. */
  id: string;
  /** 1 for a delivery's first attempt. */
  number: number;
  trigger: Trigger;
  outcome: Outcome;
  /** It ends dead, and later deliveries of its ordering key must wait. */
  parksKey: boolean;
  url: string;
  method: string;
  /** JSON object of the headers sent, secrets masked. */
  requestHeaders: string;
  envelope: string;
  /** The body where a template made it; null: the envelope made it, or there was none. */
  requestBody: Buffer | null;
  /** The stored template that shaped it, by UUID. */
  templateId: string | null;
  templateVersion: number | null;
  responseStatus: number | null;
  /** JSON object of the headers received. */
  responseHeaders: string | null;
  responseBody: Buffer | null;
  responseTruncated: boolean;
  errorClass: ErrorClass | null;
  errorMessage: string | null;
  durationMs: number;
  endedAtMs: number;
}

const BATCH_WEIGHT_MAX = 1_000;
const COMMITS_AT_ONCE = 2;

/** Of the deliveries only the next one of an ordering key waits for a record: under load it comes that much later. */
const COMMIT_EVERY_MS = 20;

/** Refusals that are no outage, after which a batch is taken apart. */
const TRIES_OF_A_FAULTY_BATCH = 3;
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 2_000;

/**
 * Writes attempts and what became of their deliveries, many in one statement. While the database is away the batch is
 * tried again for as long as it takes: what was sent must be known. The statement may be repeated: a delivery whose
 * lease this node no longer holds is left alone, and an attempt is stored once.
 */
export class Recorder {
  readonly #pool: pg.Pool;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #onRecorded: (record: AttemptRecord) => void;
  readonly #onUnrecordable: (record: AttemptRecord) => void;
  readonly #leaseOf: (task: DeliveryTask) => number;
  readonly #batches: GroupCommit<AttemptRecord>;
  readonly #rows = new RecordRows();
  #stopped = false;
  #failing = false;

  constructor(options: {
    pool: pg.Pool;
    clock: Clock;
    logger: Logger;
    /** Called for each record after its commit. */
    onRecorded: (record: AttemptRecord) => void;
    /** Not even a short note of the attempt could be stored. */
    onUnrecordable: (record: AttemptRecord) => void;
    /** The node's number under which the delivery is leased; 0 when its lease was lost. */
    leaseOf: (task: DeliveryTask) => number;
  }) {
    this.#pool = options.pool;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#onRecorded = options.onRecorded;
    this.#onUnrecordable = options.onUnrecordable;
    this.#leaseOf = options.leaseOf;
    this.#batches = new GroupCommit({
      commit: (records) => this.#writeByDay(records),
      pace: { clock: options.clock, commits: COMMITS_AT_ONCE, everyMs: COMMIT_EVERY_MS },
      weightMax: BATCH_WEIGHT_MAX,
      weigh: (record) => 1 + ((record.responseBody?.length ?? 0) + (record.requestBody?.length ?? 0)) / 1024,
    });
  }

  /** The database does not take records at the moment: nothing new should be sent. */
  get failing(): boolean {
    return this.#failing;
  }

  add(record: AttemptRecord): void {
    this.#batches.add(record);
  }

  whenIdle(): Promise<void> {
    return this.#batches.whenIdle();
  }

  /** Gives up on what cannot be written; the leases expire with the node and the attempts are made again. */
  stop(): void {
    this.#stopped = true;
  }

  /** Deliveries of several days are in several partitions, and each has a statement of its own. */
  async #writeByDay(records: AttemptRecord[]): Promise<void> {
    if (partitionOfAll(records) !== undefined) return this.#write(records);
    const days = Map.groupBy(records, ({ task }) => partitionOf('deliveries', [task.id]));
    for (const ofDay of days.values()) await this.#write(ofDay);
  }

  async #write(records: AttemptRecord[], again = false): Promise<void> {
    let retryMs = RETRY_MS_MIN;
    for (let tries = 1; !this.#stopped; tries++) {
      const refusal = await this.#tryWrite(records, again || tries > 1);
      if (refusal === undefined) {
        this.#failing = false;
        for (const record of records) this.#onRecorded(record);
        return;
      }
      this.#logger.error({ code: errorCode(refusal), attempts: records.length }, 'attempts could not be recorded yet');
      if (!isDatabaseGone(refusal) && tries >= TRIES_OF_A_FAULTY_BATCH) return this.#isolate(records);
      this.#failing = true;
      await new Promise<void>((resolve) => this.#clock.after(retryMs, resolve));
      retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
    }
  }

  /** Why the database did not take the batch; undefined when it did. */
  async #tryWrite(records: AttemptRecord[], again: boolean): Promise<unknown> {
    try {
      const { attempts, outcomes } = this.#rows.of(records, this.#leaseOf);
      const ids = records.map(({ id }) => id);
      const steps: Step[] = [
        { ...copyAttempts(partitionOf('attempts', ids)), rows: attempts },
        { ...outcomesStatement(records, again), values: [outcomes] },
      ];
      if (again) steps.unshift({ ...FORGET_ATTEMPTS, values: keysOf(records) });
      await runPipeline(this.#pool, 'record-attempts', steps);
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** A record that the database refuses must not hold up the others: halve until it stands alone, and set it aside. */
  async #isolate(records: AttemptRecord[]): Promise<void> {
    const [only] = records;
    if (records.length === 1 && only !== undefined) return this.#setAside(only);
    const half = Math.ceil(records.length / 2);
    await this.#write(records.slice(0, half), true);
    await this.#write(records.slice(half), true);
  }

  /** Ends the delivery with a note in place of what the database refuses: sent again, it would come to the same. */
  async #setAside(record: AttemptRecord): Promise<void> {
    this.#failing = false;
    this.#logger.fatal(
      { delivery_id: record.task.id, attempt: record.number },
      'an attempt cannot be recorded; its delivery is set aside',
    );
    const note: AttemptRecord = {
      ...record,
      outcome: { status: 'dead', reason: 'unrecordable', disableWebhook: false },
      requestHeaders: '{}',
      requestBody: null,
      responseHeaders: null,
      responseBody: null,
      responseTruncated: record.responseBody !== null,
      errorClass: 'internal',
      errorMessage: 'What came of the attempt could not be stored.',
    };
    if ((await this.#tryWrite([note], true)) === undefined) this.#onRecorded(note);
    else this.#onUnrecordable(record);
  }
}

/** What the statements that record take. */
class RecordRows {
  readonly #attempts = new CopyRows(23);
  readonly #outcomes = new RowArray(16);

  of(records: AttemptRecord[], leaseOf: (task: DeliveryTask) => number) {
    this.#attempts.reset();
    this.#outcomes.reset();
    for (const record of records) {
      this.#addAttempt(record);
      this.#addOutcome(record, leaseOf(record.task));
    }
    return { attempts: this.#attempts.finish(), outcomes: this.#outcomes.finish() };
  }

  #addAttempt(record: AttemptRecord): void {
    const { task } = record;
    const row = this.#attempts;
    row.row();
    row.sameUuid(0, task.tenantId);
    row.sameUuid(1, task.environmentId);
    row.uuid(record.id);
    row.uuid(task.id);
    row.uuid(task.event.uuid);
    row.sameUuid(2, task.webhookId);
    row.text(task.event.type);
    row.int(record.number);
    row.text(record.trigger);
    row.text(record.url);
    row.text(record.method);
    row.text(record.requestHeaders);
    row.text(record.envelope);
    row.int(record.responseStatus);
    row.text(record.responseHeaders);
    row.bytes(record.responseBody);
    row.boolean(record.responseTruncated);
    row.text(record.errorClass);
    row.text(record.errorMessage);
    row.int(record.durationMs);
    row.bytes(record.requestBody);
    row.uuid(record.templateId);
    row.int(record.templateVersion);
  }

  #addOutcome(record: AttemptRecord, lease: number): void {
    const { task, outcome } = record;
    const row = this.#outcomes;
    row.row();
    row.sameUuid(0, task.tenantId);
    row.sameUuid(1, task.environmentId);
    row.uuid(task.id);
    row.int(lease);
    row.int(record.number);
    row.text(record.trigger);
    row.text(outcome.status);
    row.text(outcome.status === 'dead' ? outcome.reason : null);
    row.timestamp(outcome.status === 'failed' ? outcome.dueAtMs : null);
    row.text(nextTrigger(record));
    row.int(record.responseStatus);
    row.int(record.durationMs);
    row.text(record.errorClass);
    row.text(record.errorMessage);
    row.timestamp(record.endedAtMs);
    row.boolean(record.parksKey);
  }
}

/**
 * The cheapest statement that does all they need. What is written again may be of a day whose partition is gone
 * meanwhile, and the whole table knows nothing of that.
 */
function outcomesStatement(records: AttemptRecord[], again: boolean): { name: string; text: string } {
  const table = again ? 'deliveries' : (partitionOfAll(records) ?? 'deliveries');
  const allSucceeded = records.every(
    ({ outcome, task }) => outcome.status === 'delivered' && task.orderingKey === null,
  );
  return allSucceeded ? recordSuccesses(table) : recordOutcomes(table);
}

/** The partition that has all their deliveries; undefined when there are several. */
function partitionOfAll(records: AttemptRecord[]): string | undefined {
  const ids = records.map(({ task }) => task.id);
  const table = partitionOf('deliveries', ids);
  return table === 'deliveries' ? undefined : table;
}

function keysOf(records: AttemptRecord[]): Buffer[] {
  return [
    uuidArray(records.map(({ task }) => task.tenantId)),
    uuidArray(records.map(({ task }) => task.environmentId)),
    uuidArray(records.map(({ task }) => task.id)),
    uuidArray(records.map(({ id }) => id)),
  ];
}

/** What the delivery's next attempt is made for, if there is one. */
function nextTrigger({ task, outcome }: AttemptRecord): Trigger {
  if (task.trigger === 'test') return 'test';
  return outcome.status === 'failed' && outcome.failover ? 'failover' : 'scheduled';
}
