import type { Clock } from '../../kernel/clock.ts';
import { Wakeups } from '../wakeups.ts';
import type { InHand } from './in-hand.ts';
import type { Lane } from './lane.ts';

/** Keeps lanes from starting anything until their pace allows it. */
export class Rests {
  readonly #clock: Clock;
  readonly #wakeups: Wakeups;

  constructor(options: {
    clock: Clock;
    inHand: InHand;
    /** Their pace may let these webhooks' lanes start the next request. */
    onRested: (webhookIds: string[]) => void;
  }) {
    const { clock, inHand, onRested } = options;
    this.#clock = clock;
    this.#wakeups = new Wakeups(clock, (webhookIds) => {
      for (const webhookId of webhookIds) {
        const lane = inHand.lanes.get(webhookId);
        if (lane === undefined) continue;
        lane.resting = false;
        this.rest(lane);
      }
      onRested(webhookIds);
    });
  }

  clear(): void {
    this.#wakeups.clear();
  }

  rest(lane: Lane): void {
    const waitMs = lane.waitMs(this.#clock);
    if (waitMs <= 0) return;
    lane.resting = true;
    this.#wakeups.set(lane.webhookId, this.#clock.now() + waitMs);
  }
}
