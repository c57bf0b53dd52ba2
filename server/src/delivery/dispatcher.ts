import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import type { Shaping } from '../shaping/shaping.ts';
import type { Batching } from '../webhooks/batching.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import type { LaneAdmission } from './admission.ts';
import type { AttemptEnd, Attempts, Load, Route } from './attempts.ts';
import type { BatchShaper } from './batches/batch-shaper.ts';
import { Gatherings } from './batches/gatherings.ts';
import type { TooLarge } from './batches/too-large.ts';
import type { Circuits } from './circuits/circuits.ts';
import type { InHand } from './lanes/in-hand.ts';
import type { Lane } from './lanes/lane.ts';
import { Rests } from './lanes/rests.ts';
import { type Turn, Turns } from './lanes/turns.ts';
import { isOwnFault } from './outcome.ts';
import type { Recorder } from './recorder.ts';
import type { GiveUp } from './rows.ts';
import type { DeliveryTask } from './task.ts';
import type { TokenResult, Tokens } from './tokens.ts';
import type { UnderWay } from './under-way.ts';

export interface DispatcherOptions {
  clock: Clock;
  logger: Logger;
  directory: WebhookDirectory;
  /** Requests under way at once. */
  inFlightMax: number;
  inHand: InHand;
  underWay: UnderWay;
  admission: LaneAdmission;
  circuits: Circuits;
  tokens: Tokens;
  tooLarge: TooLarge;
  attempts: Attempts;
  batchShaper: BatchShaper;
  recorder: Recorder;
  /** What is leased to this node is its own, and it goes on: requests may begin. */
  answersForLeases: () => boolean;
  giveBack: (lease: GiveUp) => void;
  /** A turn of the lane has ended: it may have room for more of its rows. */
  onFree: (lane: Lane) => void;
}

/** How a batch that has to be shaped goes on from there. */
interface ShapedSending {
  batching: Batching;
  shaping: Shaping;
  route: Route;
  token: TokenResult | undefined;
}

const UNREADABLE_WEBHOOK_MS = 1_000;
const UNREADABLE = Symbol('the webhook could not be read');

/** Gives lanes their turns, and takes a delivery whose turn it is from its queue to the end of its attempt. */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #turns: Turns;
  readonly #rests: Rests;
  readonly #gatherings: Gatherings;
  /** Its lease is this node's still: while it waited for something, much may have happened. */
  readonly #mayGo = (task: DeliveryTask): boolean =>
    this.#options.answersForLeases() && !this.#options.underWay.isLost(task);
  #pumping = false;

  constructor(options: DispatcherOptions) {
    const { clock, inHand, tooLarge } = options;
    this.#options = options;
    this.#turns = new Turns(options.inFlightMax);
    const wake = (webhookIds: string[]) => this.#wake(webhookIds);
    this.#rests = new Rests({ clock, inHand, onRested: wake });
    this.#gatherings = new Gatherings({ clock, tooLarge, onGathered: wake });
  }

  /** Wakes no lane any more. What is under way ends as it does. */
  stop(): void {
    this.#rests.clear();
    this.#gatherings.stop();
  }

  /** Turns that were given and have not ended. */
  get inFlight(): number {
    return this.#turns.inFlight;
  }

  /** Requests under way at once, from now on. */
  set inFlightMax(inFlightMax: number) {
    this.#turns.inFlightMax = inFlightMax;
    this.pump();
  }

  get inFlightMax(): number {
    return this.#turns.inFlightMax;
  }

  /** Keeps a lane from starting anything until its pace allows it. */
  rest(lane: Lane): void {
    this.#rests.rest(lane);
  }

  /** Has a lane given a turn when it wants one. */
  offer(lane: Lane): void {
    if (lane.batching !== null) this.#gatherings.ripen(lane, lane.batching);
    this.#turns.offer(lane);
  }

  /** These may want a turn that they did not want before. */
  #wake(webhookIds: string[]): void {
    for (const webhookId of webhookIds) {
      const lane = this.#options.inHand.lanes.get(webhookId);
      if (lane !== undefined) this.offer(lane);
    }
    this.pump();
  }

  /** Starts requests while there are places and lanes that want one. */
  pump(): void {
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
        this.offer(turn.lane);
      }
    } finally {
      this.#pumping = false;
    }
  }

  get #mayBegin(): boolean {
    if (!this.#options.answersForLeases() || this.#options.recorder.failing) return false;
    return this.#options.underWay.requests < this.#turns.inFlightMax;
  }

  /** `token`: what came of asking for one, when that was just done for this delivery. */
  #begin(turn: Turn, task: DeliveryTask, token: TokenResult | undefined): void {
    const found = this.#options.directory.find(task, task.webhookId);
    if (!(found instanceof Promise)) {
      this.#beginWith(turn, task, found, token);
      return;
    }
    const reading = found.catch((error): typeof UNREADABLE => {
      this.#options.logger.error({ code: errorCode(error) }, 'a webhook could not be read; its deliveries wait');
      return UNREADABLE;
    });
    this.#await(turn, task, reading, (target) => {
      if (target === UNREADABLE) this.#wait(turn, task, this.#options.clock.now() + UNREADABLE_WEBHOOK_MS);
      else this.#beginWith(turn, task, target, token);
    });
  }

  #beginWith(turn: Turn, task: DeliveryTask, target: WebhookTarget | undefined, asked: TokenResult | undefined): void {
    const { lane } = turn;
    const nowMs = this.#options.clock.now();
    if (target === undefined || target.status !== 'active') {
      this.#options.giveBack(
        target === undefined ? { task, to: 'discarded', reason: 'webhook_deleted', atMs: nowMs } : { task, to: 'held' },
      );
      this.#endTurn(turn, 0);
      return;
    }
    const token = this.#options.tokens.forRequest(target, asked);
    if (token instanceof Promise) {
      this.#await(turn, task, token, (came) => this.#begin(turn, task, came));
      return;
    }
    lane.configure(target);
    // The limit may have been lowered since this turn was given. Whoever has a route is sent: it may be the one probe.
    const route = lane.inFlight > lane.concurrency ? undefined : this.#options.admission.route(lane, task, target);
    if (route === undefined) {
      this.#wait(turn, task, nowMs);
      return;
    }
    if (lane.pace !== undefined) {
      lane.pace.start(this.#options.clock.monotonicMs());
      this.#rests.rest(lane);
    }
    // Without a token nothing is sent, whatever a template makes of it.
    if (target.batching !== null && target.shaping !== null && token?.ok !== false) {
      this.#shapeBatch(turn, task, target, { batching: target.batching, shaping: target.shaping, route, token });
      return;
    }
    const load = this.#load(turn, task, target, route);
    this.#options.underWay.enter(load.tasks);
    this.#attempt(turn, load, target, route, token);
  }

  #attempt(turn: Turn, load: Load, target: WebhookTarget, route: Route, token: TokenResult | undefined): void {
    this.#options.attempts.make(load, target, route, token, this.#mayGo, (end) => {
      if (end.records === null) {
        // It has tried nothing: another may.
        if (route.kind === 'probe') void this.#options.circuits.returnProbe(turn.lane);
        if (end.by === 'loss') this.#putBack(turn.lane, load.tasks);
        else this.#cancelledByTransform(load.tasks);
        this.#endTurn(turn, 0);
        return;
      }
      this.#attempted(turn.lane, target, end);
      this.#endTurn(turn, end.durationMs);
    });
  }

  /** Has the sandbox shape what goes together, and sends what came of it. */
  #shapeBatch(turn: Turn, task: DeliveryTask, target: WebhookTarget, sending: ShapedSending): void {
    const { batching, shaping, route, token } = sending;
    const tasks = this.#gatherings.takeToShape(turn, task, batching, route.kind === 'probe');
    this.#options.underWay.enter(tasks);
    const bytesMax = this.#gatherings.bytesMax(target, batching);
    this.#options.batchShaper.shape(
      tasks,
      target,
      shaping,
      bytesMax,
      this.#mayGo,
      ({ batch, failed, cancelled, left }) => {
        const fitted = left.length > 0 ? Math.max(1, tasks.length - left.length) : turn.lane.shapedTogetherMax;
        turn.lane.shapedTogetherMax = 2 * fitted;
        this.#putBack(turn.lane, left);
        for (const each of failed) {
          for (const record of this.#options.attempts.unshaped(each, target, route)) this.#options.recorder.add(record);
        }
        if (cancelled.length > 0) this.#cancelledByTransform(cancelled);
        // It has tried nothing: another may.
        if (route.kind === 'probe' && batch === undefined) void this.#options.circuits.returnProbe(turn.lane);
        if (batch === undefined) this.#endTurn(turn, 0);
        else this.#attempt(turn, { tasks: batch.tasks, batch }, target, route, token);
        // What was put back may go as soon as the others have gone.
        this.offer(turn.lane);
        this.pump();
      },
    );
  }

  /** They were under way, and nothing was sent of them. */
  #putBack(lane: Lane, tasks: readonly DeliveryTask[]): void {
    const { underWay, giveBack, clock } = this.#options;
    const stay: DeliveryTask[] = [];
    for (const task of tasks) {
      underWay.leave(task);
      if (this.#mayGo(task) && !lane.leaving) stay.push(task);
      else giveBack({ task, to: 'waiting', dueAtMs: clock.now() });
    }
    lane.putBack(stay);
  }

  /** What goes with the delivery whose turn it is. What tries the receiver goes alone. */
  #load(turn: Turn, task: DeliveryTask, target: WebhookTarget, route: Route): Load {
    const { batching } = target;
    if (batching === null) return { tasks: [task], batch: undefined };
    const batch = this.#gatherings.take(turn, task, target, batching, route.kind === 'probe');
    return { tasks: batch.tasks, batch };
  }

  /**
   * The delivery waits for something, and the others of its lane in their queue, where they take no places. Much may have
   * happened by then: it goes on only if it may still go.
   */
  #await<T>(turn: Turn, task: DeliveryTask, awaited: Promise<T>, goOn: (came: T) => void): void {
    const { lane } = turn;
    lane.reading = true;
    this.#options.underWay.enter([task]);
    void awaited.then((came) => {
      lane.reading = false;
      this.#options.underWay.leave(task);
      if (this.#mayGo(task)) goOn(came);
      else this.#wait(turn, task, this.#options.clock.now());
      this.offer(lane);
      this.pump();
    });
  }

  /** Nothing was sent of the delivery in its turn, and it waits in its row. */
  #wait(turn: Turn, task: DeliveryTask, dueAtMs: number): void {
    this.#options.giveBack({ task, to: 'waiting', dueAtMs });
    this.#endTurn(turn, 0);
  }

  #cancelledByTransform(tasks: readonly DeliveryTask[]): void {
    const atMs = this.#options.clock.now();
    for (const task of tasks) {
      this.#options.underWay.leave(task);
      this.#options.giveBack({ task, to: 'discarded', reason: 'cancelled_by_transform', atMs });
    }
  }

  #attempted(lane: Lane, target: WebhookTarget, end: AttemptEnd): void {
    const { route, succeeded } = end;
    lane.learn(succeeded, end.durationMs);
    const isProbe = route.kind === 'probe';
    const wasSent = !isOwnFault(end.records[0]?.errorClass ?? null);
    // It has tried nothing: another may.
    if (isProbe && !wasSent) void this.#options.circuits.returnProbe(lane);
    // What tried the receiver has to say something, else nothing tries it again.
    const counts = !end.tellsNothing || (isProbe && wasSent);
    if (target.circuitBreaker !== null && route.kind !== 'failover' && counts) {
      this.#options.circuits.note({
        lane,
        breaker: target.circuitBreaker,
        failed: !succeeded,
        probe: isProbe,
      });
    }
    for (const record of end.records) this.#options.recorder.add(record);
  }

  #endTurn(turn: Turn, tookMs: number): void {
    const { lane } = turn;
    this.#turns.end(turn, tookMs);
    this.offer(lane);
    this.#options.onFree(lane);
    this.pump();
  }
}
