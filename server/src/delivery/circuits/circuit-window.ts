/** When failures open a webhook's circuit; `circuit_breaker` of the webhook. */
export interface CircuitRule {
  /** Share of failed attempts (0..1) from which it opens. */
  readonly failureRate: number;
  /** Attempts in the window below which it never opens. */
  readonly minimumRequests: number;
  readonly windowMs: number;
}

const SLICES = 6;

/**
 * Counts attempts and failures of the last `windowMs`, in slices of a sixth: what is older than the window is forgotten
 * up to a slice late.
 */
export class CircuitWindow {
  readonly #attempts = new Array<number>(SLICES).fill(0);
  readonly #failures = new Array<number>(SLICES).fill(0);
  #slice = 0;

  /** Counts an attempt that ended at `nowMs`; true when the circuit must open. */
  count(rule: CircuitRule, failed: boolean, nowMs: number): boolean {
    const at = this.#advance(Math.floor(nowMs / (rule.windowMs / SLICES)));
    this.#attempts[at] = (this.#attempts[at] ?? 0) + 1;
    if (!failed) return false;
    this.#failures[at] = (this.#failures[at] ?? 0) + 1;
    const attempts = sum(this.#attempts);
    return attempts >= rule.minimumRequests && sum(this.#failures) >= attempts * rule.failureRate;
  }

  /** Nothing was counted in the window that ends at `nowMs`. */
  isSpent(windowMs: number, nowMs: number): boolean {
    return Math.floor(nowMs / (windowMs / SLICES)) - this.#slice >= SLICES;
  }

  #advance(slice: number): number {
    // Time that steps back stays in the slice it was in.
    const steps = Math.min(slice - this.#slice, SLICES);
    for (let step = 1; step <= steps; step++) {
      const at = (this.#slice + step) % SLICES;
      this.#attempts[at] = 0;
      this.#failures[at] = 0;
    }
    if (steps === SLICES) {
      this.#attempts.fill(0);
      this.#failures.fill(0);
    }
    if (steps > 0) this.#slice = slice;
    return this.#slice % SLICES;
  }
}

function sum(values: readonly number[]): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
