import { type Distribution, distributionOf } from './figures.ts';
import type { Marker } from './publish-request.ts';

export interface TallyOptions {
  run: number;
  /** Most events that the run may publish. */
  eventsMax: number;
  /** Webhooks that each event goes to, numbered from 0. */
  webhooks: number;
}

/** What arrived at the sink in one run, held against what was accepted. */
export interface TallyReport {
  /** Deliveries that had to arrive: accepted events times webhooks. */
  expected: number;
  /** Different deliveries that arrived. */
  arrived: number;
  /** Accepted and not arrived. */
  missing: number;
  /** Arrivals of a delivery that had arrived already. */
  duplicates: number;
  /** Arrivals that belong to no accepted event of this run: of an earlier run, of a refused event, without a marker. */
  strays: number;
  /** Of the last first arrival of a delivery; see clock.ts. */
  lastArrivalUs: number;
  /** Publish to received. */
  latency: Distribution | undefined;
}

/** Counts each delivery of a run, so that "exactly once" is checked one by one and not by a sum. */
export class Tally {
  readonly #options: TallyOptions;
  /** Arrivals of delivery `sequence * webhooks + webhook`, up to 255. */
  readonly #arrivals: Uint8Array;
  readonly #latenciesUs: Float64Array;
  #arrived = 0;
  #duplicates = 0;
  #strays = 0;
  #lastArrivalUs = 0;

  constructor(options: TallyOptions) {
    this.#options = options;
    this.#arrivals = new Uint8Array(options.eventsMax * options.webhooks);
    this.#latenciesUs = new Float64Array(this.#arrivals.length);
  }

  /** Different deliveries that arrived so far. */
  get arrived(): number {
    return this.#arrived;
  }

  /** @param marker undefined when the arrival had none that can be read. */
  record(webhook: number, marker: Marker | undefined, arrivalUs: number): void {
    const { run, eventsMax, webhooks } = this.#options;
    if (marker === undefined || marker.run !== run || marker.sequence >= eventsMax || !(webhook < webhooks)) {
      this.#strays += 1;
      return;
    }
    const delivery = marker.sequence * webhooks + webhook;
    const before = this.#arrivals[delivery] ?? 0;
    if (before > 0) {
      this.#duplicates += 1;
      this.#arrivals[delivery] = Math.min(255, before + 1);
      return;
    }
    this.#arrivals[delivery] = 1;
    this.#latenciesUs[this.#arrived] = arrivalUs - marker.sentUs;
    this.#arrived += 1;
    this.#lastArrivalUs = arrivalUs;
  }

  /**
   * @param published events 0 to `published - 1` were sent.
   * @param refused those of them that were not accepted.
   */
  report(published: number, refused: ReadonlySet<number>): TallyReport {
    const { webhooks } = this.#options;
    let missing = 0;
    let uninvited = 0;
    this.#arrivals.forEach((count, delivery) => {
      const sequence = Math.floor(delivery / webhooks);
      const accepted = sequence < published && !refused.has(sequence);
      if (accepted && count === 0) missing += 1;
      if (!accepted) uninvited += count;
    });
    return {
      expected: (published - refused.size) * webhooks,
      arrived: this.#arrived,
      missing,
      duplicates: this.#duplicates,
      strays: this.#strays + uninvited,
      lastArrivalUs: this.#lastArrivalUs,
      latency: distributionOf(this.#latenciesUs.slice(0, this.#arrived)),
    };
  }
}
