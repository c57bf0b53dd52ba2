import type pg from 'pg';
import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import { endsBy } from '../kernel/deadline.ts';
import type { IdSource } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import type { Sandbox } from '../shaping/sandbox/sandbox.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import type { EgressGuard } from '../webhooks/egress/guard.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import { LaneAdmission } from './admission.ts';
import { Attempts } from './attempts.ts';
import { BatchShaper } from './batches/batch-shaper.ts';
import { TooLarge } from './batches/too-large.ts';
import { Circuits } from './circuits/circuits.ts';
import { Claims } from './claims.ts';
import { Dispatcher } from './dispatcher.ts';
import { EndedElsewhere } from './ended-elsewhere.ts';
import { GiveBacks } from './give-backs.ts';
import { InHand } from './lanes/in-hand.ts';
import { isOrdered } from './lanes/key-sequences.ts';
import type { Lane, LaneKey } from './lanes/lane.ts';
import { OrderKeeper } from './lanes/order-keeper.ts';
import { ResumedWebhooks } from './lanes/resumed-webhooks.ts';
import { Heartbeat } from './nodes/heartbeat.ts';
import { LaneHandover } from './nodes/lane-handover.ts';
import { LaneNotices } from './nodes/lane-notices.ts';
import { LaneOwners } from './nodes/lane-owners.ts';
import { NodeChanges } from './nodes/node-changes.ts';
import { NodeRegistry } from './nodes/node-registry.ts';
import { QueueBound } from './queue-bound.ts';
import { type AttemptRecord, Recorder } from './recorder.ts';
import { type ClaimedRow, DeliveryRows, FRESH_MS_MAX, type GiveUp } from './rows.ts';
import { createSender, type Sender } from './sender.ts';
import type { DeliveryTask } from './task.ts';
import { Tokens } from './tokens.ts';
import { Totals } from './totals.ts';
import { UnderWay } from './under-way.ts';
import { WebhookTests } from './webhook-tests.ts';

export interface EngineOptions {
  pool: pg.Pool;
  clock: Clock;
  newId: IdSource;
  logger: Logger;
  /** In [0, 1), for the jitter of retries. */
  random: () => number;
  directory: WebhookDirectory;
  guard: EgressGuard;
  /** Runs templates and transforms. The engine does not stop it. */
  sandbox: Pick<Sandbox, 'run'>;
  /** Requests under way at once. */
  inFlightMax: number;
  /** Deliveries in memory at once; what is more waits in its row. */
  queuedMax: number;
  /** Waiting deliveries claimed at once. */
  claimedMax?: number;
  /** Milliseconds between two looks for rows that this node knows nothing of. */
  sweepMs?: number;
  /** Connections to one receiver at once. */
  connectionsMax?: number;
  /** Attempts that no delivery has more of. */
  attemptsMax?: number;
  /** Deliveries of a tenant that wait or are under way before `refuseWhenFull` refuses more (any number). */
  tenantQueueMax?: number | undefined;
  /** No other process can be running on this database, so whatever is leased at the start is nobody's. */
  soleNode: boolean;
  /** A receiver answered 410: its webhook must be disabled. */
  onGone: (task: DeliveryTask) => Promise<void>;
  /** What sends requests (HTTP); tests script it. */
  sender?: Sender;
}

/** Counters since the start, for the metrics. */
export interface EngineCounters {
  attempts: number;
  delivered: number;
  failed: number;
  dead: number;
}

/**
 * Delivers. It holds the deliveries that this node has leased, has them sent (`Dispatcher`) and the results recorded, and
 * lets go of them. SPEC.md says what it guarantees.
 *
 * The rows of `deliveries` are the truth, and what is in memory is a cache of some of them: a new delivery comes
 * straight from the commit that inserted it, already leased to this node (`reserve`, then `accept`); a delivery that
 * waits (for a retry, for its time, for its turn in an order, for room) lies in its row until `Claims` leases it. A
 * killed process loses nothing but its cache: `Heartbeat` of another node, or of the next start, frees its leases.
 */
export class DeliveryEngine {
  readonly counters: EngineCounters = { attempts: 0, delivered: 0, failed: 0, dead: 0 };
  readonly #options: EngineOptions;
  readonly #rows: DeliveryRows;
  readonly #recorder: Recorder;
  readonly #totals: Totals;
  readonly #sender: Sender;
  readonly #claims: Claims;
  readonly #giveBacks: GiveBacks;
  readonly #heartbeat: Heartbeat;
  readonly #dispatcher: Dispatcher;
  readonly #inHand: InHand;
  readonly #circuits: Circuits;
  readonly #owners: LaneOwners;
  readonly #notices: LaneNotices;
  readonly #handover: LaneHandover;
  readonly #admission: LaneAdmission;
  readonly #order: OrderKeeper;
  readonly #resumed: ResumedWebhooks;
  /** undefined: any number of deliveries may wait. */
  readonly #queueBound: QueueBound | undefined;
  readonly #underWay = new UnderWay();
  readonly #nodeChanges: NodeChanges;
  readonly #endedElsewhere: EndedElsewhere;
  readonly #tests: WebhookTests;
  #draining = false;

  constructor(options: EngineOptions) {
    const { pool, clock, logger, directory } = options;
    this.#options = options;
    this.#rows = new DeliveryRows(pool);
    this.#inHand = new InHand(options.queuedMax);
    const tooLarge = new TooLarge(clock);
    this.#sender =
      options.sender ?? createSender({ clock, guard: options.guard, connectionsMax: options.connectionsMax });
    this.#recorder = new Recorder({
      pool,
      clock,
      logger,
      onRecorded: (record) => this.#recorded(record),
      leaseOf: (task) => (this.#underWay.isLost(task) ? 0 : this.nodeId),
      onUnrecordable: ({ task }) => {
        this.#underWay.leave(task);
        this.#giveBack({ task, to: 'waiting', dueAtMs: clock.now() + UNRECORDABLE_AGAIN_MS });
      },
    });
    this.#totals = new Totals({ pool, clock, logger });
    const tokens = new Tokens({ sender: this.#sender, clock });
    const attempts = new Attempts({ ...options, sender: this.#sender, tokens, tooLarge });
    const batchShaper = new BatchShaper(options.sandbox);
    this.#tests = new WebhookTests({
      inHand: this.#inHand,
      tokens,
      attempts,
      batchShaper,
      recorder: this.#recorder,
    });
    this.#circuits = new Circuits({
      pool,
      clock,
      logger,
      onChange: (key) => this.#circuitChanged(key),
    });
    this.#owners = new LaneOwners(pool, clock);
    this.#notices = new LaneNotices({ pool, clock, logger, owners: this.#owners });
    this.#handover = new LaneHandover({
      clock,
      logger,
      owners: this.#owners,
      inHand: this.#inHand,
      notices: this.#notices,
      exclusively: (work) => this.#claims.exclusively(work),
      giveBack: (task) => this.#giveBack({ task, to: 'waiting', dueAtMs: clock.now() }),
      stopping: () => this.#draining,
    });
    this.#resumed = new ResumedWebhooks(clock, FRESH_MS_MAX);
    this.#order = new OrderKeeper({
      rows: this.#rows,
      clock,
      logger,
      lanes: this.#inHand.lanes,
      offer: (lane) => this.#dispatcher.offer(lane),
      expect: (lane) => this.#claims.expect(lane, clock.now()),
      again: () => this.#claims.sweepSoon(),
      park: (tasks) => {
        for (const task of tasks) this.#giveBack({ task, to: 'parked' });
      },
    });
    this.#admission = new LaneAdmission({
      clock,
      directory,
      circuits: this.#circuits,
      owners: this.#owners,
      inHand: this.#inHand,
      onTaken: (lanes) => {
        for (const lane of lanes) this.#dispatcher.rest(lane);
        this.#order.lookAt(lanes);
      },
    });
    this.#dispatcher = new Dispatcher({
      clock,
      logger,
      directory,
      inFlightMax: options.inFlightMax,
      inHand: this.#inHand,
      underWay: this.#underWay,
      admission: this.#admission,
      circuits: this.#circuits,
      tokens,
      tooLarge,
      attempts,
      batchShaper,
      recorder: this.#recorder,
      answersForLeases: () => !this.#draining && this.#heartbeat.alive,
      giveBack: (lease) => this.#giveBacks.add(lease),
      onFree: (lane) => this.#claimMore(lane),
    });
    this.#giveBacks = new GiveBacks({
      rows: this.#rows,
      clock,
      logger,
      inHand: this.#inHand,
      order: this.#order,
      isLost: (task) => this.#underWay.isLost(task),
      expect: (lane, dueAtMs) => {
        if (!this.#draining) this.#claims.expect(lane, dueAtMs);
      },
      inDoubt: (ordered) => this.#doubtLeases(ordered),
      letGo: (task) => this.#letGo(task),
      pump: () => this.#dispatcher.pump(),
    });
    this.#endedElsewhere = new EndedElsewhere({
      rows: this.#rows,
      inHand: this.#inHand,
      underWay: this.#underWay,
      order: this.#order,
      letGo: (task) => this.#letGo(task),
      onDropped: () => {
        this.#claims.sweepSoon();
        this.#dispatcher.pump();
      },
    });
    this.#nodeChanges = new NodeChanges({
      rows: this.#rows,
      clock,
      inHand: this.#inHand,
      underWay: this.#underWay,
      owners: this.#owners,
      handover: this.#handover,
      order: this.#order,
      letGo: (task) => this.#letGo(task),
      expect: (lane, dueAtMs) => this.#claims.expect(lane, dueAtMs),
    });
    this.#claims = new Claims({
      rows: this.#rows,
      clock,
      logger,
      lanes: this.#inHand.lanes,
      lane: (key) => this.#inHand.lane(key),
      forgetIdleLanes: () => this.#inHand.forgetIdleLanes(),
      admit: (lanes) => this.#admission.admit(lanes),
      begin: (lanes) => {
        for (const lane of lanes) this.#inHand.lane(lane).sequences?.claimBegins();
      },
      take: (claimed) => this.#take(claimed),
      restoreOrder: async () => {
        await this.#endedElsewhere.dropUnheard();
        await this.#order.restore();
      },
      alive: () => this.#heartbeat.alive,
      inDoubt: (ordered) => this.#doubtLeases(ordered),
      rowsMax: options.claimedMax,
      sweepMs: options.sweepMs,
    });
    if (options.tenantQueueMax !== undefined) {
      this.#queueBound = new QueueBound({
        rows: this.#rows,
        clock,
        logger,
        max: options.tenantQueueMax,
        everyMs: options.sweepMs ?? QUEUE_CHECK_MS,
        inHand: (tenantId) => this.#inHand.sizeOf(tenantId),
      });
    }
    this.#heartbeat = new Heartbeat({
      rows: this.#rows,
      registry: new NodeRegistry(pool, clock),
      clock,
      logger,
      soleNode: options.soleNode,
      exclusively: (work) => this.#claims.exclusively(work),
      oldestInHand: () => this.#inHand.oldestId(),
      idsInHand: () => this.#inHand.ids(),
      onNode: (nodeId) => this.#nodeChanges.becomeNode(nodeId),
      onNodes: (nodeIds) => this.#nodeChanges.nodesAlive(nodeIds),
      onFreed: () => this.#claims.sweepSoon(),
      onDoubtOver: () => this.#nodeChanges.doubtOver(),
      onAlive: () => {
        this.#claims.sweepSoon();
        this.#dispatcher.pump();
      },
    });
  }

  /** Joins the nodes, takes over what dead ones left, and begins to deliver what waits. */
  async start(): Promise<void> {
    await this.#heartbeat.start();
    await this.#circuits.load();
    await this.#queueBound?.start();
    await this.#claims.start();
    this.#totals.foldLater();
  }

  /** Something was counted of webhooks beside attempts. */
  counted(): void {
    this.#totals.foldLater();
  }

  /**
   * Stops taking work, lets what is under way end for `drainMs`, and gives the rest back to the rows. It takes
   * `RECORD_DEADLINE_MS` more at most, whatever the database does: what was not written by then is in doubt, and others
   * take it over from a silent node.
   */
  async stop(drainMs: number): Promise<void> {
    const { clock } = this.#options;
    const drainedByMs = clock.monotonicMs() + drainMs;
    const endMs = drainedByMs + RECORD_DEADLINE_MS;
    this.#draining = true;
    this.#queueBound?.stop();
    const claimsEnded = await endsBy(clock, endMs, this.#claims.stop());
    this.#dispatcher.stop();
    const dueAtMs = clock.now();
    for (const task of this.#inHand.drainQueues()) this.#giveBack({ task, to: 'waiting', dueAtMs });
    const probing = [...this.#inHand.lanes.values()].filter((lane) => lane.probing);
    await endsBy(clock, endMs, Promise.all(probing.map((lane) => this.#circuits.returnProbe(lane))));
    while (this.#dispatcher.inFlight > 0 && clock.monotonicMs() < drainedByMs) {
      await new Promise<void>((resolve) => clock.after(20, resolve));
    }
    await endsBy(clock, endMs, Promise.all([this.#recorder.whenIdle(), this.#giveBacks.whenIdle()]));
    this.#recorder.stop();
    await endsBy(clock, endMs, Promise.all([this.#totals.stop(), this.#sender.stop()]));
    // With something in hand still, the node is found silent by others, and its lanes with it.
    const leavesNothing = claimsEnded && this.#inHand.size === 0;
    if (leavesNothing) await endsBy(clock, endMs, this.#handover.giveUpAll());
    await endsBy(clock, endMs, this.#heartbeat.stop(leavesNothing));
  }

  /** This node's number, with which its new deliveries are leased. */
  get nodeId(): number {
    return this.#rows.nodeId;
  }

  get healthy(): boolean {
    return this.#heartbeat.alive && !this.#recorder.failing;
  }

  get gauges(): { inFlight: number; queued: number; payloadBytes: number; lanes: number; openCircuits: number } {
    return {
      inFlight: this.#dispatcher.inFlight,
      queued: this.#inHand.size - this.#dispatcher.inFlight,
      payloadBytes: this.#inHand.payloadBytes,
      lanes: this.#inHand.lanes.size,
      openCircuits: this.#circuits.size,
    };
  }

  /** Requests under way at once, from now on. */
  set inFlightMax(inFlightMax: number) {
    this.#dispatcher.inFlightMax = inFlightMax;
  }

  get inFlightMax(): number {
    return this.#dispatcher.inFlightMax;
  }

  /** @throws AppError 429 when so many deliveries of the tenant wait that no more are taken. Nothing else is refused. */
  refuseWhenFull(tenantId: string): void {
    this.#queueBound?.refuseWhenFull(tenantId);
  }

  /**
   * Takes room for a delivery that is about to be inserted: true means insert it leased to this node and `accept` it
   * after the commit (or `release` it when the commit failed); false means insert it waiting, due now.
   */
  reserve(task: DeliveryTask, target: WebhookTarget): boolean {
    if (this.#draining || !this.#heartbeat.alive || this.#recorder.failing) return false;
    const lane = this.#inHand.lane(task);
    if (!this.#admission.admitsFresh(lane, target)) return false;
    // Before it is queued: else the first of a batch would not wait for the others.
    lane.batching = target.batching;
    this.#inHand.hold(task);
    return true;
  }

  /** Queues deliveries whose rows are now committed under this node's lease. */
  accept(tasks: DeliveryTask[]): void {
    for (const task of tasks) this.#enqueue(task);
    this.#dispatcher.pump();
  }

  /** Gives up room for deliveries whose commit failed. If it may have happened all the same, their leases are looked for. */
  release(tasks: DeliveryTask[], commitUnknown: boolean): void {
    for (const task of tasks) this.#inHand.letGo(task);
    if (commitUnknown) this.#heartbeat.searchLostLeases();
  }

  /** A delivery of this webhook was committed to wait in its row until `dueAtMs`. */
  expect(key: LaneKey, dueAtMs: number): void {
    this.#claims.expect(this.#inHand.lane(key), dueAtMs);
    if (!this.#owners.alone && !this.#owners.owns(key.webhookId)) this.#notices.tell(key);
  }

  /** Another node has committed a delivery of this webhook, which is for the owner of its lane to send. */
  expectTold(key: LaneKey): void {
    if (this.#owners.shouldOwn(key.webhookId)) this.#claims.expect(this.#inHand.lane(key), this.#options.clock.now());
  }

  /** Rows became due by another way than through this engine: a retry by hand, a webhook that was resumed. */
  lookForDue(): void {
    this.#claims.sweepSoon();
  }

  /** Notices may have been missed, whatever they said: what this node holds is compared with the rows soon. */
  noticesMissed(): void {
    this.#endedElsewhere.noticesMissed();
    this.circuitsChanged();
    this.lookForDue();
  }

  /** A webhook became active. Its receiver may have just come back: it begins with few requests at once. */
  resumed(webhookId: string): void {
    this.#resumed.note(webhookId);
    this.#inHand.lanes.get(webhookId)?.recover();
  }

  /** A tenant is no longer suspended: what was held for it goes on, with few requests at once for each webhook. */
  tenantResumed(tenantId: string): void {
    this.#resumed.note(tenantId);
    for (const lane of this.#inHand.lanes.values()) if (lane.tenantId === tenantId) lane.recover();
    this.#claims.sweepSoon();
  }

  /** What the rows say of a circuit has changed, on another node perhaps; without a webhook, of any. */
  circuitsChanged(webhookId?: string): void {
    this.#circuits.load(webhookId).catch((error) => {
      this.#options.logger.warn({ code: errorCode(error) }, 'circuits could not be read');
    });
  }

  /** These deliveries of a tenant were cancelled: what of them is still queued here is not sent. */
  cancelled(tenantId: string, deliveryIds: readonly string[]): void {
    this.#endedElsewhere.drop(deliveryIds, tenantId);
  }

  /** Sends a test at once, past the queue and whatever the webhook's status is; resolves when it is recorded. */
  sendTest(task: DeliveryTask, target: WebhookTarget): Promise<AttemptRecord> {
    return this.#tests.send(task, target);
  }

  /** Rows may be leased to this node that it does not hold, some of them in the order of these lanes. */
  #doubtLeases(ordered: LaneKey[]): void {
    this.#nodeChanges.doubt(ordered);
    this.#heartbeat.searchLostLeases();
  }

  #circuitChanged(key: LaneKey): void {
    const lane = this.#inHand.lane(key);
    if (this.#circuits.find(key.webhookId) === undefined) {
      lane.probing = false;
      lane.recover();
    }
    // What is queued is given back one by one as it gets its turn, and a claim finds out when the next is worth a try.
    this.#claims.expect(lane, this.#options.clock.now());
    this.#dispatcher.pump();
  }

  #take(claimed: ClaimedRow[]): void {
    const nowMs = this.#options.clock.now();
    for (const row of claimed) {
      if ('parkedKey' in row) {
        this.#inHand.lanes.get(row.webhookId)?.noteParked(row.parkedKey);
        continue;
      }
      const { task } = row;
      if (this.#resumed.heldUp(task)) task.late = true;
      const before = this.#underWay.find(task.id);
      if (before !== undefined) {
        // It lost its lease while a request of it was under way, and came back. That request has to end first.
        this.#underWay.lose(before);
        this.#giveBack({ task, to: 'waiting', dueAtMs: nowMs + UNDER_WAY_MS });
        continue;
      }
      this.#inHand.hold(task);
      if (row.erased) this.#giveBack({ task, to: 'discarded', reason: 'payload_erased', atMs: nowMs });
      else this.#enqueue(task);
    }
    this.#dispatcher.pump();
  }

  #enqueue(task: DeliveryTask): void {
    const lane = this.#inHand.lane(task);
    if (lane.leaving) this.#giveBack({ task, to: 'waiting', dueAtMs: this.#options.clock.now() });
    else if (lane.push(task) === 'park') this.#giveBack({ task, to: 'parked' });
    else this.#dispatcher.offer(lane);
  }

  #recorded(record: AttemptRecord): void {
    const { task, outcome } = record;
    this.#underWay.leave(task);
    this.#totals.foldLater();
    this.counters.attempts += 1;
    this.counters[outcome.status] += 1;
    const lane = this.#inHand.lane(task);
    if (isOrdered(task)) {
      if (outcome.status === 'failed' || record.parksKey) this.#order.blocked(lane, task);
      else this.#order.ended(lane, task);
    }
    if (outcome.status === 'failed') this.#claims.expect(lane, outcome.dueAtMs);
    this.#letGo(task);
    if (task.trigger === 'test') this.#tests.recorded(record);
    if (outcome.status === 'dead' && outcome.disableWebhook) {
      this.#options.onGone(task).catch((error) => {
        this.#options.logger.error({ code: errorCode(error) }, 'a webhook that is gone could not be disabled');
      });
    }
    this.#claimMore(lane);
    this.#dispatcher.pump();
  }

  #claimMore(lane: Lane): void {
    if (lane.wantsRows(this.#options.clock.now())) this.#claims.claimSoon(lane);
  }

  #giveBack(lease: GiveUp): void {
    this.#giveBacks.add(lease);
  }

  #letGo(task: DeliveryTask): void {
    this.#inHand.letGo(task);
    const lane = this.#inHand.lanes.get(task.webhookId);
    if (lane?.leaving && lane.held === 0) this.#handover.giveUp([lane]);
  }
}

const QUEUE_CHECK_MS = 5_000;
const UNDER_WAY_MS = 1_000;
const UNRECORDABLE_AGAIN_MS = 60_000;
const RECORD_DEADLINE_MS = 5_000;
