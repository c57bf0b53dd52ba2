import type { Clock } from '../../kernel/clock.ts';
import { timeOfId } from '../../kernel/ids.ts';
import type { DeliveryTask } from '../task.ts';

/**
 * Webhooks that became active a short while ago. What was held for one of them is a backlog, however short its pause
 * was: of a row alone it cannot be told whether it has just been published or was held meanwhile.
 */
export class ResumedWebhooks {
  readonly #clock: Clock;
  /** When each became active, in milliseconds since the epoch. */
  readonly #atMs = new Map<string, number>();
  readonly #forgetAfterMs: number;

  /** @param forgetAfterMs the age from which a delivery is a backlog in any case. */
  constructor(clock: Clock, forgetAfterMs: number) {
    this.#clock = clock;
    this.#forgetAfterMs = forgetAfterMs;
  }

  note(webhookId: string): void {
    const nowMs = this.#clock.now();
    for (const [id, atMs] of this.#atMs) if (nowMs - atMs > this.#forgetAfterMs) this.#atMs.delete(id);
    this.#atMs.set(webhookId, nowMs);
  }

  /** The delivery was made before its webhook became active. */
  heldUp(task: DeliveryTask): boolean {
    const atMs = this.#atMs.get(task.webhookId);
    return atMs !== undefined && timeOfId(task.id) < atMs;
  }
}
