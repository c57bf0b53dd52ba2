/**
 * A webhook's rate limit: starts are spread evenly, and no stretch of 60 seconds has more of them than the limit says.
 *
 * It is the generic cell rate algorithm (ITU-T I.371): each start moves the time of the next one on by an interval, and a
 * start that was up to a tolerance late does not move the later ones, which makes up for timers that ring late. An idle
 * time earns nothing. A stretch of W milliseconds has at most floor((W + tolerance) / interval) + 1 starts. The interval is chosen so that this stays
 * within the limit for W = 60,000 plus `ARRIVAL_JITTER_MS`: the receiver counts arrivals, and a network does not keep
 * the distance between them.
 */
export class Pace {
  readonly perMinute: number;
  readonly #intervalMs: number;
  #nextMs: number;

  /** `notBeforeMs`: the earliest first start, on the monotonic clock: what an earlier owner of the lane left. */
  constructor(perMinute: number, notBeforeMs: number) {
    this.perMinute = perMinute;
    this.#intervalMs = paceIntervalMs(perMinute);
    this.#nextMs = notBeforeMs + TOLERANCE_MS;
  }

  /** When the next start may be, on the monotonic clock. */
  get readyAtMs(): number {
    return this.#nextMs - TOLERANCE_MS;
  }

  /** The time before which nobody who goes on with this pace may start; differs from `readyAtMs` by the tolerance. */
  get pacedUntilMs(): number {
    return this.#nextMs;
  }

  start(nowMs: number): void {
    const isLateBy = nowMs - this.readyAtMs;
    this.#nextMs = (isLateBy <= TOLERANCE_MS ? this.#nextMs : nowMs + TOLERANCE_MS) + this.#intervalMs;
  }

  /** The same pace at another limit. */
  at(perMinute: number): Pace {
    return perMinute === this.perMinute ? this : new Pace(perMinute, this.#nextMs);
  }
}

const MINUTE_MS = 60_000;
const TOLERANCE_MS = 100;
const ARRIVAL_JITTER_MS = 200;

/** Milliseconds between two starts under a limit. */
export function paceIntervalMs(perMinute: number): number {
  return (MINUTE_MS + TOLERANCE_MS + ARRIVAL_JITTER_MS) / perMinute;
}
