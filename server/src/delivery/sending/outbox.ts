/** Something with bytes to send. */
export interface Sends {
  /** Sends them now. */
  flush(): void;
}

/**
 * Requests that were begun in the same turn of the event loop leave together at its end. A receiver that sleeps is woken
 * by the first of them and finds the others there: one write after the other takes 8 us on one machine, and 20 us when
 * each has to wake it (measured).
 */
export class Outbox {
  #waiting: Sends[] = [];

  add(sends: Sends): void {
    if (this.#waiting.length === 0) setImmediate(() => this.#flush());
    this.#waiting.push(sends);
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const sends of waiting) sends.flush();
  }
}
