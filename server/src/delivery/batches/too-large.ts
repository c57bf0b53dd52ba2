import type { Clock } from '../../kernel/clock.ts';
import { RecentEntries } from '../../kernel/recent-entries.ts';

/** Webhooks of which it is remembered that their receivers found a batch too large. */
const WEBHOOKS_MAX = 10_000;

/** A receiver may take more later: after this time the webhook's own limit counts again. */
const REMEMBERED_MS = 3_600_000;

/** How large batches may be for receivers that answered 413: half of what was too large, for an hour, on this node. */
export class TooLarge {
  readonly #known = new RecentEntries<{ bytesMax: number; untilMs: number }>(WEBHOOKS_MAX);
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A batch of so many bytes was too large. */
  note(webhookId: string, bytes: number): void {
    const bytesMax = Math.min(Math.floor(bytes / 2), this.bytesMax(webhookId));
    this.#known.set(webhookId, { bytesMax, untilMs: this.#clock.monotonicMs() + REMEMBERED_MS });
  }

  /** Infinity: nothing is known. */
  bytesMax(webhookId: string): number {
    const known = this.#known.peek(webhookId);
    return known === undefined || known.untilMs <= this.#clock.monotonicMs()
      ? Number.POSITIVE_INFINITY
      : known.bytesMax;
  }
}
