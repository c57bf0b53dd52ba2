import type pg from 'pg';
import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { IdSource } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import type { EgressGuard } from '../webhooks/egress/guard.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import { Claims } from './claims.ts';
import { Heartbeat } from './heartbeat.ts';
import { InHand } from './in-hand.ts';
import type { Lane } from './lane.ts';
import { NodeRegistry } from './node-registry.ts';
import { type AttemptResult, decideOutcome } from './outcome.ts';
import { recordedResult } from './recorded-result.ts';
import { type AttemptRecord, Recorder } from './recorder.ts';
import { prepareRequest } from './request.ts';
import { DeliveryRows, type GiveUp } from './rows.ts';
import { createSender, type Sender } from './sender.ts';
import type { DeliveryTask } from './task.ts';
import { Turns } from './turns.ts';

export interface EngineOptions {
  pool: pg.Pool;
  clock: Clock;
  newId: IdSource;
  logger: Logger;
  /** In [0, 1), for the jitter of retries. */
  random: () => number;
  directory: WebhookDirectory;
  guard: EgressGuard;
  /** Requests under way at once. */
  inFlightMax: number;
  /** Deliveries in memory at once; what is more waits in its row. */
  queuedMax: number;
  /** No other process can be running on this database, so whatever is leased at the start is nobody's. */
  soleNode: boolean;
  /** A receiver answered 410: its webhook must be disabled. */
  onGone: (task: DeliveryTask) => Promise<void>;
}

/** Counters since the start, for the metrics. */
export interface EngineCounters {
  attempts: number;
  delivered: number;
  failed: number;
  dead: number;
}

/**
 * Delivers. It holds the deliveries that this node has leased, gives their lanes turns, sends, decides and has the
 * results recorded.
 *
 * The rows of `deliveries` are the truth, and what is in memory is a cache of some of them: a new delivery comes
 * straight from the commit that inserted it, already leased to this node (`reserve`, then `accept`); a delivery that
 * waits (for a retry, for its time, for room) lies in its row until `Claims` leases it. A killed process loses nothing
 * but its cache: `Heartbeat` of another node, or of the next start, frees its leases.
 */
export class DeliveryEngine {
  readonly counters: EngineCounters = { attempts: 0, delivered: 0, failed: 0, dead: 0 };
  readonly #options: EngineOptions;
  readonly #rows: DeliveryRows;
  readonly #recorder: Recorder;
  readonly #sender: Sender;
  readonly #claims: Claims;
  readonly #heartbeat: Heartbeat;
  readonly #turns: Turns;
  readonly #inHand: InHand;
  readonly #testers = new Map<string, (record: AttemptRecord) => void>();
  #draining = false;
  #pumping = false;

  constructor(options: EngineOptions) {
    const { pool, clock, logger } = options;
    this.#options = options;
    this.#rows = new DeliveryRows(pool);
    this.#inHand = new InHand(options.queuedMax);
    this.#turns = new Turns(options.inFlightMax);
    this.#sender = createSender({ clock, guard: options.guard });
    this.#recorder = new Recorder({ pool, clock, logger, onRecorded: (record) => this.#recorded(record) });
    this.#claims = new Claims({
      rows: this.#rows,
      clock,
      logger,
      lane: (tenantId, webhookId) => this.#inHand.lane(tenantId, webhookId),
      lanes: this.#inHand.lanes,
      room: (lane) => this.#inHand.room(lane),
      take: (task) => this.#take(task),
      giveUp: (lease) => this.#giveUp(lease),
      pump: () => this.#pump(),
      alive: () => this.#heartbeat.alive,
    });
    this.#heartbeat = new Heartbeat({
      rows: this.#rows,
      registry: new NodeRegistry(pool, clock),
      clock,
      logger,
      soleNode: options.soleNode,
      exclusively: (work) => this.#claims.exclusively(work),
      oldestInHand: () => this.#inHand.oldestId(),
      idsInHand: () => this.#inHand.ids(),
      onNode: (nodeId) => this.#becomeNode(nodeId),
      onFreed: () => this.#claims.sweepSoon(),
      onAlive: () => {
        this.#claims.sweepSoon();
        this.#pump();
      },
    });
  }

  /** Joins the nodes, takes over what dead ones left, and begins to deliver what waits. */
  async start(): Promise<void> {
    await this.#heartbeat.start();
    await this.#claims.start();
  }

  /** Stops taking work, lets what is under way end for `drainMs`, and gives the rest back to the rows. */
  async stop(drainMs: number): Promise<void> {
    this.#draining = true;
    await this.#claims.stop();
    await this.#giveBackQueued();
    const deadline = this.#options.clock.monotonicMs() + drainMs;
    while (this.#turns.inFlight > 0 && this.#options.clock.monotonicMs() < deadline) {
      await new Promise<void>((resolve) => this.#options.clock.after(20, resolve));
    }
    const recorded = this.#recorder.whenIdle();
    const late = new Promise<void>((resolve) => this.#options.clock.after(RECORD_DEADLINE_MS, resolve));
    await Promise.race([recorded, late]);
    this.#recorder.stop();
    await this.#sender.stop();
    await this.#heartbeat.stop(this.#inHand.size);
  }

  /** This node's number, with which its new deliveries are leased. */
  get nodeId(): number {
    return this.#rows.nodeId;
  }

  get healthy(): boolean {
    return this.#heartbeat.alive && !this.#recorder.failing;
  }

  get gauges(): { inFlight: number; queued: number; lanes: number } {
    return {
      inFlight: this.#turns.inFlight,
      queued: this.#inHand.size - this.#turns.inFlight,
      lanes: this.#inHand.lanes.size,
    };
  }

  /**
   * Takes room for a delivery that is about to be inserted: true means insert it leased to this node and `accept` it
   * after the commit (or `release` it when the commit failed); false means insert it waiting, due now.
   */
  reserve(task: DeliveryTask): boolean {
    if (this.#draining || !this.#heartbeat.alive || this.#recorder.failing) return false;
    if (this.#inHand.room(this.#inHand.laneOf(task)) < 1) return false;
    this.#inHand.hold(task);
    return true;
  }

  /** Queues deliveries whose rows are now committed under this node's lease. */
  accept(tasks: DeliveryTask[]): void {
    for (const task of tasks) this.#enqueue(task);
    this.#pump();
  }

  /** Gives up room for deliveries whose commit failed. If it may have happened all the same, their leases are looked for. */
  release(tasks: DeliveryTask[], commitUnknown: boolean): void {
    for (const task of tasks) this.#inHand.letGo(task);
    if (commitUnknown) this.#heartbeat.searchLostLeases();
  }

  /** Deliveries of these webhooks were committed to wait in their rows until `dueAtMs`. */
  expect(tenantId: string, webhookId: string, dueAtMs: number): void {
    this.#claims.expect(this.#inHand.lane(tenantId, webhookId), dueAtMs);
  }

  /** Rows became due by another way than through this engine: a retry by hand, a webhook that was resumed. */
  lookForDue(): void {
    this.#claims.sweepSoon();
  }

  /** Sends a test at once, past the queue and whatever the webhook's status is; resolves when it is recorded. */
  sendTest(task: DeliveryTask, target: WebhookTarget): Promise<AttemptRecord> {
    this.#inHand.hold(task);
    return new Promise((resolve) => {
      this.#testers.set(task.id, resolve);
      this.#send(task, target, () => {});
    });
  }

  #becomeNode(nodeId: number): void {
    // What was leased to the former node is free for everyone now, so nothing of it may be sent from memory.
    for (const lane of this.#inHand.lanes.values()) for (const task of lane.drain()) this.#inHand.letGo(task);
    this.#rows.nodeId = nodeId;
    this.#recorder.nodeId = nodeId;
  }

  #take(task: DeliveryTask): void {
    this.#inHand.hold(task);
    this.#enqueue(task);
  }

  #enqueue(task: DeliveryTask): void {
    const lane = this.#inHand.laneOf(task);
    lane.push(task);
    this.#turns.offer(lane);
  }

  /** Starts requests while there are places and lanes that want one. */
  #pump(): void {
    // A request that fails before it was sent ends within this call; the loop below goes on with what it left.
    if (this.#pumping) return;
    this.#pumping = true;
    while (!this.#draining && this.#heartbeat.alive && !this.#recorder.failing) {
      const lane = this.#turns.next();
      if (lane === undefined) break;
      const task = lane.shift();
      if (task === undefined) this.#turns.release(lane);
      else this.#begin(lane, task);
      this.#turns.offer(lane);
    }
    this.#pumping = false;
  }

  #begin(lane: Lane, task: DeliveryTask): void {
    const found = this.#options.directory.find(task, task.webhookId);
    if (found instanceof Promise) {
      found.then(
        (target) => this.#beginWith(lane, task, target),
        (error) => {
          this.#options.logger.error({ code: errorCode(error) }, 'a webhook could not be read; its deliveries wait');
          this.#giveUp({ task, to: 'waiting', dueAtMs: this.#options.clock.now() + UNREADABLE_WEBHOOK_MS });
          this.#endTurn(lane);
        },
      );
      return;
    }
    this.#beginWith(lane, task, found);
  }

  #beginWith(lane: Lane, task: DeliveryTask, target: WebhookTarget | undefined): void {
    if (target === undefined || target.status !== 'active') {
      const atMs = this.#options.clock.now();
      this.#giveUp(
        target === undefined ? { task, to: 'discarded', reason: 'webhook_deleted', atMs } : { task, to: 'held' },
      );
      this.#endTurn(lane);
      return;
    }
    lane.limit(target.maxConcurrency);
    this.#send(task, target, () => this.#endTurn(lane));
  }

  #endTurn(lane: Lane): void {
    this.#turns.release(lane);
    this.#turns.offer(lane);
    if (lane.wantsRows(this.#options.clock.now())) this.#claims.claimSoon(lane);
    this.#pump();
  }

  #send(task: DeliveryTask, target: WebhookTarget, onEnd: () => void): void {
    const { clock } = this.#options;
    const number = task.attemptCount + 1;
    const base = {
      task,
      id: this.#options.newId(),
      number,
      url: target.url.href,
      method: target.method,
      envelope: target.envelope,
    };
    const end = (requestHeaders: string, result: AttemptResult, durationMs: number) => {
      const nowMs = clock.now();
      const { trigger } = task;
      const random = this.#options.random();
      const outcome = decideOutcome({
        result,
        policy: target.retryPolicy,
        attemptNumber: number,
        trigger,
        nowMs,
        random,
      });
      this.#recorder.add({ ...base, requestHeaders, outcome, durationMs, endedAtMs: nowMs, ...recordedResult(result) });
      onEnd();
    };
    let request: ReturnType<typeof prepareRequest>;
    try {
      request = prepareRequest(task, target, number, clock.now());
    } catch (error) {
      // A fault of ours is an attempt like any other: it is seen, retried and capped, and the lane goes on.
      this.#options.logger.error({ code: errorCode(error), delivery_id: task.id }, 'a request could not be built');
      end('{}', { kind: 'failed', errorClass: 'internal', message: 'The request could not be built.' }, 0);
      return;
    }
    this.#sender.send(request, (result, durationMs) => end(request.recordedHeaders, result, durationMs));
  }

  #recorded(record: AttemptRecord): void {
    const { task, outcome } = record;
    this.counters.attempts += 1;
    this.counters[outcome.status] += 1;
    const lane = this.#inHand.laneOf(task);
    if (outcome.status === 'failed') this.#claims.expect(lane, outcome.dueAtMs);
    this.#inHand.letGo(task);
    this.#testers.get(task.id)?.(record);
    this.#testers.delete(task.id);
    if (outcome.status === 'dead' && outcome.disableWebhook) {
      this.#options.onGone(task).catch((error) => {
        this.#options.logger.error({ code: errorCode(error) }, 'a webhook that is gone could not be disabled');
      });
    }
    if (lane.wantsRows(this.#options.clock.now())) this.#claims.claimSoon(lane);
    if (this.#turns.inFlight === 0) this.#pump();
  }

  #giveUp(lease: GiveUp): void {
    const { task } = lease;
    this.#rows
      .giveUp([lease])
      .then(
        () => {
          if (lease.to === 'waiting') this.#claims.expect(this.#inHand.laneOf(task), lease.dueAtMs);
        },
        (error) => {
          this.#options.logger.error(
            { code: errorCode(error) },
            'a lease could not be given up; it is looked for later',
          );
          this.#heartbeat.searchLostLeases();
        },
      )
      .finally(() => this.#inHand.letGo(task));
  }

  async #giveBackQueued(): Promise<void> {
    const dueAtMs = this.#options.clock.now();
    const queued = [...this.#inHand.lanes.values()].flatMap((lane) => lane.drain());
    try {
      await this.#rows.giveUp(queued.map((task) => ({ task, to: 'waiting', dueAtMs })));
      for (const task of queued) this.#inHand.letGo(task);
    } catch (error) {
      this.#options.logger.error(
        { code: errorCode(error) },
        'leases could not be given back; they are freed at the next start',
      );
    }
  }
}

const UNREADABLE_WEBHOOK_MS = 1_000;
const RECORD_DEADLINE_MS = 5_000;
