import type { Clock } from '../../kernel/clock.ts';
import { timeOfId } from '../../kernel/ids.ts';
import type { DeliveryTask } from '../task.ts';

/**
 * Webhooks that became active, and tenants that were resumed, a short while ago. What was held for one of them is a backlog, however short its pause
 * was: of a row alone it cannot be told whether it has just been published or was held meanwhile.
 */
export class ResumedWebhooks {
  readonly #clock: Clock;
  /** When each webhook or tenant became active, in milliseconds since the epoch. */
  readonly #atMs = new Map<string, number>();
  readonly #forgetAfterMs: number;

  /** @param forgetAfterMs the age from which a delivery is a backlog in any case. */
  constructor(clock: Clock, forgetAfterMs: number) {
    this.#clock = clock;
    this.#forgetAfterMs = forgetAfterMs;
  }

  /** A webhook, or a tenant with all of its webhooks. */
  note(id: string): void {
    const nowMs = this.#clock.now();
    for (const [noted, atMs] of this.#atMs) if (nowMs - atMs > this.#forgetAfterMs) this.#atMs.delete(noted);
    this.#atMs.set(id, nowMs);
  }

  /** The delivery was made before its webhook became active, or its tenant was resumed. */
  heldUp(task: DeliveryTask): boolean {
    if (this.#atMs.size === 0) return false;
    const madeAtMs = timeOfId(task.id);
    return [task.webhookId, task.tenantId].some((id) => madeAtMs < (this.#atMs.get(id) ?? Number.NEGATIVE_INFINITY));
  }
}
