/**
 * When a first attempt is due that waits in its row for nothing but its turn: a century before its event was accepted.
 *
 * That is past by the clock of every node, so a node that sends does not wait for the clock of the one that accepted. And
 * it comes before every retry in the index of waiting rows, whose times are of this century: a claim finds the first
 * attempts of a webhook without a look at its retries, however many are due. Among themselves they keep their order.
 */
export function firstAttemptDueAtMs(acceptedAtMs: number): number {
  return acceptedAtMs - CENTURY_MS;
}

/** When an event was accepted whose first attempt is due at such a time. */
export function acceptedAtMs(dueAtMs: number): number {
  return dueAtMs + CENTURY_MS;
}

/** What waits until such a time is a first attempt that waits for its turn only. */
export function isFirstAttemptDue(dueAtMs: number): boolean {
  return dueAtMs < FIRST_ATTEMPTS_BEFORE_MS;
}

/** Milliseconds since the epoch: the year 2000. `CLAIM_DUE` has the same time. */
const FIRST_ATTEMPTS_BEFORE_MS = 946_684_800_000;

const CENTURY_MS = 36_525 * 86_400_000;
