import type { Clock } from '../../kernel/clock.ts';
import type { Batching } from '../../webhooks/batching.ts';
import type { WebhookTarget } from '../../webhooks/target.ts';
import type { Lane } from '../lanes/lane.ts';
import type { Turn } from '../lanes/turns.ts';
import type { DeliveryTask } from '../task.ts';
import { Wakeups } from '../wakeups.ts';
import { type Batch, gatherBatch, gatherToShape, type Waiting } from './batch.ts';
import type { TooLarge } from './too-large.ts';

/** Has deliveries of webhooks with batching wait for others to go with, and takes those that go together. */
export class Gatherings {
  readonly #clock: Clock;
  readonly #tooLarge: TooLarge;
  readonly #wakeups: Wakeups;
  #stopped = false;

  constructor(options: {
    clock: Clock;
    tooLarge: TooLarge;
    /** What waits for these webhooks may have waited for long enough. */
    onGathered: (webhookIds: string[]) => void;
  }) {
    this.#clock = options.clock;
    this.#tooLarge = options.tooLarge;
    this.#wakeups = new Wakeups(options.clock, options.onGathered);
  }

  stop(): void {
    this.#stopped = true;
    this.#wakeups.clear();
  }

  /** Lets go what of a lane has waited for long enough, and remembers when the rest will have. */
  ripen(lane: Lane, batching: Batching): void {
    const ripeAtMs = lane.ripen(batching, this.#clock.now());
    if (ripeAtMs !== Number.POSITIVE_INFINITY && !this.#stopped) this.#wakeups.set(lane.webhookId, ripeAtMs);
  }

  /** What goes with the delivery whose turn it is. `alone`: nothing does. */
  take(turn: Turn, task: DeliveryTask, target: WebhookTarget, batching: Batching, alone: boolean): Batch {
    const limits = { events: alone ? 1 : batching.maxEvents, bytes: this.bytesMax(target, batching) };
    const batch = gatherBatch(task, target, limits, waitingFor(turn));
    turn.lane.gathered(turn.kind);
    return batch;
  }

  /** The same for a webhook whose template has yet to shape the events. */
  takeToShape(turn: Turn, task: DeliveryTask, batching: Batching, alone: boolean): DeliveryTask[] {
    const { lane, kind } = turn;
    const eventsMax = alone ? 1 : Math.min(batching.maxEvents, lane.shapedTogetherMax);
    const tasks = gatherToShape(task, eventsMax, waitingFor(turn));
    // The others have waited as long as these where only so many are shaped at once.
    if (tasks.length < eventsMax || eventsMax === batching.maxEvents) lane.gathered(kind);
    return tasks;
  }

  /** Of the body of a batch. */
  bytesMax(target: WebhookTarget, batching: Batching): number {
    return Math.min(batching.maxBytes, this.#tooLarge.bytesMax(target.id));
  }
}

function waitingFor({ lane, kind }: Turn): Waiting {
  return { peek: () => lane.peek(kind), shift: () => lane.shift(kind) };
}
