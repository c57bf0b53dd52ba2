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
import { type AttemptEnd, Attempts, type Cancelled, type Load, type Route } from './attempts.ts';
import { gatherBatch } from './batch.ts';
import { Circuits } from './circuits/circuits.ts';
import { Claims } from './claims.ts';
import { GiveBacks } from './give-backs.ts';
import { InHand } from './lanes/in-hand.ts';
import { isOrdered } from './lanes/key-sequences.ts';
import type { Lane, LaneKey } from './lanes/lane.ts';
import { OrderKeeper } from './lanes/order-keeper.ts';
import { ResumedWebhooks } from './lanes/resumed-webhooks.ts';
import { type Turn, Turns } from './lanes/turns.ts';
import { Heartbeat } from './nodes/heartbeat.ts';
import { LaneHandover } from './nodes/lane-handover.ts';
import { LaneNotices } from './nodes/lane-notices.ts';
import { LaneOwners } from './nodes/lane-owners.ts';
import { NodeRegistry } from './nodes/node-registry.ts';
import { isOwnFault } from './outcome.ts';
import { QueueBound } from './queue-bound.ts';
import { type AttemptRecord, Recorder } from './recorder.ts';
import { type ClaimedRow, DeliveryRows, FRESH_MS_MAX, type GiveUp } from './rows.ts';
import { createSender, type Sender } from './sender.ts';
import type { DeliveryTask } from './task.ts';
import { type TokenResult, Tokens } from './tokens.ts';
import { TooLarge } from './too-large.ts';
import { Totals } from './totals.ts';
import { Wakeups } from './wakeups.ts';

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
 * Delivers. It holds the deliveries that this node has leased, gives their lanes turns, sends, decides and has the
 * results recorded. SPEC.md says what it guarantees.
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
  readonly #tokens: Tokens;
  readonly #tooLarge: TooLarge;
  readonly #attempts: Attempts;
  readonly #claims: Claims;
  readonly #giveBacks: GiveBacks;
  readonly #heartbeat: Heartbeat;
  readonly #turns: Turns;
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
  /** Lanes whose pace lets them start later. */
  readonly #rests: Wakeups;
  /** Lanes of which deliveries wait for others to go with. */
  readonly #gatherings: Wakeups;
  /** Deliveries of which a request is under way or its result is being recorded. */
  readonly #underWay = new Map<string, DeliveryTask>();
  /** Those of them whose leases are not this node's any more: what comes of them moves nothing. */
  readonly #lost = new WeakSet<DeliveryTask>();
  /** Those under way that share a request, with how many of it are left. */
  readonly #shared = new WeakMap<DeliveryTask, { left: number }>();
  /** How many more deliveries are under way than requests. */
  #sharing = 0;
  /** Deliveries may have ended of which this node was not told. */
  #unheard = false;
  readonly #testers = new Map<string, (record: AttemptRecord) => void>();
  #inFlightMax: number;
  #draining = false;
  #pumping = false;

  constructor(options: EngineOptions) {
    const { pool, clock, logger, directory } = options;
    this.#options = options;
    this.#rows = new DeliveryRows(pool);
    this.#inHand = new InHand(options.queuedMax);
    this.#inFlightMax = options.inFlightMax;
    this.#turns = new Turns(options.inFlightMax);
    this.#rests = new Wakeups(clock, (webhookIds) => this.#rested(webhookIds));
    this.#gatherings = new Wakeups(clock, (webhookIds) => this.#gathered(webhookIds));
    this.#sender =
      options.sender ?? createSender({ clock, guard: options.guard, connectionsMax: options.connectionsMax });
    this.#recorder = new Recorder({
      pool,
      clock,
      logger,
      onRecorded: (record) => this.#recorded(record),
      leaseOf: (task) => (this.#lost.has(task) ? 0 : this.nodeId),
      onUnrecordable: ({ task }) => {
        this.#leaveWay(task);
        this.#giveBack({ task, to: 'waiting', dueAtMs: clock.now() + UNRECORDABLE_AGAIN_MS });
      },
    });
    this.#totals = new Totals({ pool, clock, logger });
    this.#tokens = new Tokens({ sender: this.#sender, clock });
    this.#tooLarge = new TooLarge(clock);
    this.#attempts = new Attempts({
      ...options,
      sender: this.#sender,
      tokens: this.#tokens,
      tooLarge: this.#tooLarge,
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
      offer: (lane) => this.#offer(lane),
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
        for (const lane of lanes) this.#rest(lane);
        this.#order.lookAt(lanes);
      },
    });
    this.#giveBacks = new GiveBacks({
      rows: this.#rows,
      logger,
      onGiven: (lease) => this.#gaveBack(lease),
      onDoubt: (lease) => {
        this.#doubtLeases(isOrdered(lease.task) ? [lease.task] : []);
        this.#leavePlace(lease);
        this.#letGo(lease.task);
      },
    });
    this.#claims = new Claims({
      rows: this.#rows,
      clock,
      logger,
      lanes: this.#inHand.lanes,
      lane: (key) => this.#inHand.lane(key),
      admit: (lanes) => this.#admission.admit(lanes),
      begin: (lanes) => {
        for (const lane of lanes) this.#inHand.lane(lane).sequences?.claimBegins();
      },
      take: (claimed) => this.#take(claimed),
      restoreOrder: async () => {
        await this.#dropEnded();
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
      onNode: (nodeId) => this.#becomeNode(nodeId),
      onNodes: (nodeIds) => this.#nodesChanged(nodeIds),
      onFreed: () => this.#claims.sweepSoon(),
      onDoubtOver: () => this.#doubtOver(),
      onAlive: () => {
        this.#claims.sweepSoon();
        this.#pump();
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
    this.#rests.clear();
    this.#gatherings.clear();
    const dueAtMs = clock.now();
    for (const task of this.#drainQueues()) this.#giveBack({ task, to: 'waiting', dueAtMs });
    const probing = [...this.#inHand.lanes.values()].filter((lane) => lane.probing);
    await endsBy(clock, endMs, Promise.all(probing.map((lane) => this.#circuits.returnProbe(lane))));
    while (this.#turns.inFlight > 0 && clock.monotonicMs() < drainedByMs) {
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
      inFlight: this.#turns.inFlight,
      queued: this.#inHand.size - this.#turns.inFlight,
      payloadBytes: this.#inHand.payloadBytes,
      lanes: this.#inHand.lanes.size,
      openCircuits: this.#circuits.size,
    };
  }

  /** Requests under way at once, from now on. */
  set inFlightMax(inFlightMax: number) {
    this.#inFlightMax = inFlightMax;
    this.#turns.inFlightMax = inFlightMax;
    this.#pump();
  }

  get inFlightMax(): number {
    return this.#inFlightMax;
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
    this.#pump();
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
    this.#unheard = true;
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

  /** These deliveries were cancelled: what of them is still queued here is not sent. */
  cancelled(deliveryIds: readonly string[]): void {
    const ids = new Set(deliveryIds);
    for (const lane of this.#inHand.lanes.values()) {
      for (const task of lane.remove(({ id }) => ids.has(id))) {
        if (isOrdered(task)) this.#order.ended(lane, task);
        this.#letGo(task);
      }
      if (lane.sequences !== undefined) this.#order.lookAt([lane]);
    }
    this.#claims.sweepSoon();
    this.#pump();
  }

  /** Sends a test at once, past the queue and whatever the webhook's status is; resolves when it is recorded. */
  sendTest(task: DeliveryTask, target: WebhookTarget): Promise<AttemptRecord> {
    this.#inHand.hold(task);
    const batch = target.batching === null ? undefined : gatherBatch(task, target, ONE_EVENT, NOTHING_WAITS);
    return new Promise((resolve) => {
      this.#testers.set(task.id, resolve);
      const make = (token: TokenResult | undefined) => {
        const load = { tasks: [task], batch };
        this.#attempts.make(load, target, { kind: 'test' }, token, ({ records }) => this.#record(records ?? []));
      };
      const token = this.#tokenFor(target, undefined);
      if (token instanceof Promise) void token.then(make);
      else make(token);
    });
  }

  /** Lets go of what is queued here and was cancelled, or ended otherwise, without a word that reached this node. */
  async #dropEnded(): Promise<void> {
    if (!this.#unheard) return;
    // What is missed from here on is for the next time.
    this.#unheard = false;
    try {
      const ended = await this.#rows.endedOf(this.#inHand.tasks().filter(({ id }) => !this.#underWay.has(id)));
      if (ended.length > 0) this.cancelled(ended);
    } catch (error) {
      this.#unheard = true;
      throw error;
    }
  }

  #becomeNode(nodeId: number): void {
    // What was leased to the former node is free for everyone now, so nothing of it may be sent from memory.
    for (const task of this.#drainQueues()) this.#letGo(task);
    for (const task of this.#underWay.values()) this.#lost.add(task);
    this.#rows.nodeId = nodeId;
    this.#owners.becomeNode(nodeId);
    for (const lane of this.#inHand.lanes.values()) lane.inDoubt = false;
  }

  /** The nodes that live, as of this heartbeat. */
  #nodesChanged(nodeIds: number[]): void {
    const changed = this.#owners.setAlive(nodeIds);
    this.#handover.leave();
    if (!changed) return;
    const now = this.#options.clock.now();
    for (const lane of this.#inHand.lanes.values()) this.#claims.expect(lane, now);
  }

  /** Rows may be leased to this node that it does not hold, some of them in the order of these lanes. */
  #doubtLeases(ordered: LaneKey[]): void {
    for (const key of ordered) this.#inHand.lane(key).inDoubt = true;
    this.#heartbeat.searchLostLeases();
  }

  #doubtOver(): void {
    const lanes = [...this.#inHand.lanes.values()].filter((lane) => lane.inDoubt);
    for (const lane of lanes) lane.inDoubt = false;
    // A claim whose answer was lost has parked rows, too.
    this.#order.lookAt(lanes);
    this.#handover.giveUp(lanes);
  }

  #circuitChanged(key: LaneKey): void {
    const lane = this.#inHand.lane(key);
    if (this.#circuits.find(key.webhookId) === undefined) {
      lane.probing = false;
      lane.recover();
    }
    // What is queued is given back one by one as it gets its turn, and a claim finds out when the next is worth a try.
    this.#claims.expect(lane, this.#options.clock.now());
    this.#pump();
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
      const before = this.#underWay.get(task.id);
      if (before !== undefined) {
        // It lost its lease while a request of it was under way, and came back. That request has to end first.
        this.#lost.add(before);
        this.#giveBack({ task, to: 'waiting', dueAtMs: nowMs + UNDER_WAY_MS });
        continue;
      }
      this.#inHand.hold(task);
      if (row.erased) this.#giveBack({ task, to: 'discarded', reason: 'payload_erased', atMs: nowMs });
      else this.#enqueue(task);
    }
    this.#pump();
  }

  #enqueue(task: DeliveryTask): void {
    const lane = this.#inHand.lane(task);
    if (lane.leaving) this.#giveBack({ task, to: 'waiting', dueAtMs: this.#options.clock.now() });
    else if (lane.push(task) === 'park') this.#giveBack({ task, to: 'parked' });
    else this.#offer(lane);
  }

  /** Has a lane given a turn when it wants one. */
  #offer(lane: Lane): void {
    if (lane.batching !== null) {
      const ripeAtMs = lane.ripen(lane.batching, this.#options.clock.now());
      if (ripeAtMs !== Number.POSITIVE_INFINITY && !this.#draining) this.#gatherings.set(lane.webhookId, ripeAtMs);
    }
    this.#turns.offer(lane);
  }

  #gathered(webhookIds: string[]): void {
    for (const webhookId of webhookIds) {
      const lane = this.#inHand.lanes.get(webhookId);
      if (lane !== undefined) this.#offer(lane);
    }
    this.#pump();
  }

  /** Starts requests while there are places and lanes that want one. */
  #pump(): void {
    // A request that fails before it was sent ends within this call; the loop below goes on with what it left.
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.#mayBegin) {
        const turn = this.#turns.next();
        if (turn === undefined) break;
        const task = turn.lane.shift(turn.kind);
        if (task === undefined) this.#endTurn(turn, 0);
        else this.#begin(turn, task, undefined);
        this.#offer(turn.lane);
      }
    } finally {
      this.#pumping = false;
    }
  }

  /**
   * What was sent and is not recorded yet counts as under way: when this node is killed now, it is what is sent again.
   */
  get #mayBegin(): boolean {
    if (this.#draining || !this.#heartbeat.alive || this.#recorder.failing) return false;
    return this.#underWay.size - this.#sharing < this.#inFlightMax;
  }

  /** `token`: what came of asking for one, when that was just done for this delivery. */
  #begin(turn: Turn, task: DeliveryTask, token: TokenResult | undefined): void {
    const found = this.#options.directory.find(task, task.webhookId);
    if (!(found instanceof Promise)) {
      this.#beginWith(turn, task, found, token);
      return;
    }
    turn.lane.reading = true;
    found.then(
      (target) => {
        turn.lane.reading = false;
        this.#beginWith(turn, task, target, token);
        this.#offer(turn.lane);
        this.#pump();
      },
      (error) => {
        turn.lane.reading = false;
        this.#options.logger.error({ code: errorCode(error) }, 'a webhook could not be read; its deliveries wait');
        this.#giveBack({ task, to: 'waiting', dueAtMs: this.#options.clock.now() + UNREADABLE_WEBHOOK_MS });
        this.#endTurn(turn, 0);
      },
    );
  }

  #beginWith(turn: Turn, task: DeliveryTask, target: WebhookTarget | undefined, asked: TokenResult | undefined): void {
    const { lane } = turn;
    const nowMs = this.#options.clock.now();
    if (target === undefined || target.status !== 'active') {
      this.#giveBack(
        target === undefined ? { task, to: 'discarded', reason: 'webhook_deleted', atMs: nowMs } : { task, to: 'held' },
      );
      this.#endTurn(turn, 0);
      return;
    }
    const token = this.#tokenFor(target, asked);
    if (token instanceof Promise) {
      this.#awaitToken(turn, task, token);
      return;
    }
    lane.configure(target);
    // The limit may have been lowered since this turn was given. Whoever has a route is sent: it may be the one probe.
    const route = lane.inFlight > lane.concurrency ? undefined : this.#route(lane, task, target);
    if (route === undefined) {
      this.#giveBack({ task, to: 'waiting', dueAtMs: nowMs });
      this.#endTurn(turn, 0);
      return;
    }
    if (lane.pace !== undefined) {
      lane.pace.start(this.#options.clock.monotonicMs());
      this.#rest(lane);
    }
    const load = this.#load(turn, task, target, route);
    this.#enterWay(load.tasks);
    this.#attempts.make(load, target, route, token, (end) => {
      if (end.records === null) {
        this.#cancelledByTransform(lane, load.tasks, end);
        this.#endTurn(turn, 0);
        return;
      }
      this.#attempted(lane, target, end);
      this.#endTurn(turn, end.durationMs);
    });
  }

  /** What goes with the delivery whose turn it is. What tries the receiver goes alone. */
  #load({ lane, kind }: Turn, task: DeliveryTask, target: WebhookTarget, route: Route): Load {
    const { batching } = target;
    if (batching === null) return { tasks: [task], batch: undefined };
    const limits = {
      events: route.kind === 'probe' ? 1 : batching.maxEvents,
      bytes: Math.min(batching.maxBytes, this.#tooLarge.bytesMax(target.id)),
    };
    const waiting = { peek: () => lane.peek(kind), shift: () => lane.shift(kind) };
    const batch = gatherBatch(task, target, limits, waiting);
    lane.gathered(kind);
    return { tasks: batch.tasks, batch };
  }

  /** The token that a request needs; undefined: it needs none. `asked`: what came of asking, which is not done twice. */
  #tokenFor(target: WebhookTarget, asked: TokenResult | undefined): TokenResult | undefined | Promise<TokenResult> {
    const { credentials } = target;
    if (credentials.kind !== 'oauth2') return undefined;
    const fingerprint = asked?.ok === true ? asked.token.fingerprint : asked?.fingerprint;
    if (asked !== undefined && fingerprint === credentials.fingerprint) return asked;
    const found = this.#tokens.find(target, credentials);
    return found instanceof Promise ? found : { ok: true, token: found };
  }

  /**
   * The delivery waits for its webhook's token, and the others of its lane in their queue, where they take no places.
   * Much may have happened by then: everything is looked at anew.
   */
  #awaitToken(turn: Turn, task: DeliveryTask, fetching: Promise<TokenResult>): void {
    const { lane } = turn;
    lane.reading = true;
    this.#enterWay([task]);
    void fetching.then((token) => {
      lane.reading = false;
      this.#leaveWay(task);
      if (this.#draining || !this.#heartbeat.alive || this.#lost.has(task)) {
        this.#giveBack({ task, to: 'waiting', dueAtMs: this.#options.clock.now() });
        this.#endTurn(turn, 0);
      } else this.#begin(turn, task, token);
      this.#offer(lane);
      this.#pump();
    });
  }

  /** A request of these is under way from here on. */
  #enterWay(tasks: readonly DeliveryTask[]): void {
    for (const task of tasks) this.#underWay.set(task.id, task);
    if (tasks.length === 1) return;
    const request = { left: tasks.length };
    for (const task of tasks) this.#shared.set(task, request);
    this.#sharing += tasks.length - 1;
  }

  #leaveWay(task: DeliveryTask): void {
    this.#underWay.delete(task.id);
    const request = this.#shared.get(task);
    if (request === undefined) return;
    this.#shared.delete(task);
    request.left -= 1;
    if (request.left > 0) this.#sharing -= 1;
  }

  #cancelledByTransform(lane: Lane, tasks: readonly DeliveryTask[], { route }: Cancelled): void {
    // It has tried nothing: another may.
    if (route.kind === 'probe') void this.#circuits.returnProbe(lane);
    const atMs = this.#options.clock.now();
    for (const task of tasks) {
      this.#leaveWay(task);
      this.#giveBack({ task, to: 'discarded', reason: 'cancelled_by_transform', atMs });
    }
  }

  /** Where the attempt goes; undefined: nowhere now, by this node. */
  #route(lane: Lane, task: DeliveryTask, target: WebhookTarget) {
    if (target.bound && (lane.leaving || !this.#owners.owns(target.id))) return undefined;
    const { circuitBreaker, failoverUrl } = target;
    const open = circuitBreaker !== null && this.#circuits.find(target.id) !== undefined;
    // What goes to the failover URL because its attempts are used up tries nothing.
    if (open && lane.probing && (failoverUrl === null || task.trigger !== 'failover')) {
      lane.probing = false;
      return { kind: 'probe', againMs: circuitBreaker.openMs } as const;
    }
    if (failoverUrl !== null && (open || task.trigger === 'failover')) {
      return { kind: 'failover', url: failoverUrl } as const;
    }
    return open ? undefined : ({ kind: 'usual' } as const);
  }

  #attempted(lane: Lane, target: WebhookTarget, end: AttemptEnd): void {
    const { route, succeeded } = end;
    lane.learn(succeeded, end.durationMs);
    // What tried the receiver has to say something, else nothing tries it again.
    const counts = !end.tellsNothing || (route.kind === 'probe' && !isOwnFault(end.records[0]?.errorClass ?? null));
    if (target.circuitBreaker !== null && route.kind !== 'failover' && counts) {
      this.#circuits.note({ lane, breaker: target.circuitBreaker, failed: !succeeded, probe: route.kind === 'probe' });
    }
    this.#record(end.records);
  }

  #record(records: readonly AttemptRecord[]): void {
    for (const record of records) this.#recorder.add(record);
  }

  #endTurn(turn: Turn, tookMs: number): void {
    const { lane } = turn;
    this.#turns.end(turn, tookMs);
    this.#offer(lane);
    if (lane.wantsRows(this.#options.clock.now())) this.#claims.claimSoon(lane);
    this.#pump();
  }

  /** Keeps a lane from starting anything until its pace allows it. */
  #rest(lane: Lane): void {
    const waitMs = lane.waitMs(this.#options.clock);
    if (waitMs <= 0) return;
    lane.resting = true;
    this.#rests.set(lane.webhookId, this.#options.clock.now() + waitMs);
  }

  #rested(webhookIds: string[]): void {
    for (const webhookId of webhookIds) {
      const lane = this.#inHand.lanes.get(webhookId);
      if (lane === undefined) continue;
      lane.resting = false;
      this.#rest(lane);
      this.#offer(lane);
    }
    this.#pump();
  }

  #recorded(record: AttemptRecord): void {
    const { task, outcome } = record;
    this.#leaveWay(task);
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
    if (task.trigger === 'test') {
      this.#testers.get(task.id)?.(record);
      this.#testers.delete(task.id);
    }
    if (outcome.status === 'dead' && outcome.disableWebhook) {
      this.#options.onGone(task).catch((error) => {
        this.#options.logger.error({ code: errorCode(error) }, 'a webhook that is gone could not be disabled');
      });
    }
    if (lane.wantsRows(this.#options.clock.now())) this.#claims.claimSoon(lane);
    this.#pump();
  }

  #giveBack(lease: GiveUp): void {
    if (isOrdered(lease.task) && lease.to === 'discarded') {
      this.#order.ended(this.#inHand.lane(lease.task), lease.task);
    }
    this.#giveBacks.add(lease);
  }

  #gaveBack(lease: GiveUp): void {
    this.#leavePlace(lease);
    if (lease.to === 'waiting' && !this.#draining) this.#claims.expect(this.#inHand.lane(lease.task), lease.dueAtMs);
    this.#letGo(lease.task);
  }

  /**
   * It has no place in its key any more: it may never come back here. Until its row says that it waits, those behind it
   * waited in memory; from now on they do so in their rows.
   */
  #leavePlace({ task, to }: GiveUp): void {
    if (!isOrdered(task) || to === 'discarded') return;
    const lane = this.#inHand.lane(task);
    if (to === 'parked') this.#order.parked(lane, task);
    else this.#order.blocked(lane, task);
  }

  #letGo(task: DeliveryTask): void {
    this.#inHand.letGo(task);
    const lane = this.#inHand.lanes.get(task.webhookId);
    if (lane?.leaving && lane.held === 0) this.#handover.giveUp([lane]);
  }

  #drainQueues(): DeliveryTask[] {
    return [...this.#inHand.lanes.values()].flatMap((lane) => lane.drain());
  }
}

/** A test goes by itself, in the form of a batch. */
const ONE_EVENT = { events: 1, bytes: 0 };
const NOTHING_WAITS = { peek: () => undefined, shift: () => undefined };

const QUEUE_CHECK_MS = 5_000;
const UNDER_WAY_MS = 1_000;
const UNREADABLE_WEBHOOK_MS = 1_000;
const UNRECORDABLE_AGAIN_MS = 60_000;
const RECORD_DEADLINE_MS = 5_000;
