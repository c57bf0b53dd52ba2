import { type Distribution, distributionOf } from './figures.ts';
import type { Marker } from './publish-request.ts';

export interface TallyOptions {
  run: number;
  /** Most events that the run may publish. */
  eventsMax: number;
  /** Numbered from 0. */
  webhooks: number;
  /** true: event n goes to webhook n modulo their number alone. false: each event goes to all of them. */
  byTurns: boolean;
}

/** What the generator knows of the events of a run: 0 to `published - 1` were sent. */
export interface Publishes {
  published: number;
  /** Those of them that were not accepted. */
  refused: readonly number[];
  /** Those of them that may have been accepted: they may arrive, and need not. */
  unanswered: readonly number[];
}

/** What arrived at the sink in one run, held against what was accepted. */
export interface TallyReport {
  /** Deliveries that had to arrive: those of accepted events. */
  expected: number;
  /** Different deliveries that arrived. */
  arrived: number;
  /** Accepted and not arrived. */
  missing: number;
  /** Arrivals of a delivery that had arrived already in this life of the sender. */
  duplicates: number;
  /** Deliveries that arrived again after the sender was killed: it may have died before it wrote down that they had. */
  repeats: number;
  /** Arrivals that belong to no accepted event of this run: of an earlier run, of a refused event, without a marker. */
  strays: number;
  /** Of the first arrival in the sender's present life, and of the last delivery that was new; see clock.ts. */
  firstArrivalUs: number;
  lastArrivalUs: number;
  /** Publish to received. */
  latency: Distribution | undefined;
}

/** Counts each delivery of a run, so that "exactly once" is checked one by one and not by a sum. */
export class Tally {
  readonly #options: TallyOptions;
  readonly #deliveriesPerEvent: number;
  /** For each delivery the life of the sender in which it last arrived; 0: not yet. */
  readonly #lives: Uint8Array;
  readonly #latenciesUs: Float64Array;
  #life = 1;
  #arrived = 0;
  #duplicates = 0;
  #repeats = 0;
  #strays = 0;
  #firstArrivalUs = 0;
  #lastArrivalUs = 0;

  constructor(options: TallyOptions) {
    this.#options = options;
    this.#deliveriesPerEvent = options.byTurns ? 1 : options.webhooks;
    this.#lives = new Uint8Array(options.eventsMax * this.#deliveriesPerEvent);
    this.#latenciesUs = new Float64Array(this.#lives.length);
  }

  /** Different deliveries that arrived so far. */
  get arrived(): number {
    return this.#arrived;
  }

  /** The sender was killed and starts again, at most 254 times. */
  beginLife(): void {
    this.#life += 1;
    this.#firstArrivalUs = 0;
  }

  /** @param marker undefined when the arrival had none that can be read. */
  record(webhook: number, marker: Marker | undefined, arrivalUs: number): void {
    const { run, eventsMax, webhooks, byTurns } = this.#options;
    if (
      marker === undefined ||
      marker.run !== run ||
      marker.sequence >= eventsMax ||
      !(byTurns ? webhook === marker.sequence % webhooks : webhook < webhooks)
    ) {
      this.#strays += 1;
      return;
    }
    if (this.#firstArrivalUs === 0) this.#firstArrivalUs = arrivalUs;
    const delivery = byTurns ? marker.sequence : marker.sequence * webhooks + webhook;
    const life = this.#lives[delivery];
    this.#lives[delivery] = this.#life;
    if (life === this.#life) this.#duplicates += 1;
    else if (life !== 0) this.#repeats += 1;
    else {
      this.#latenciesUs[this.#arrived] = arrivalUs - marker.sentUs;
      this.#arrived += 1;
      this.#lastArrivalUs = arrivalUs;
    }
  }

  /** Deliveries that must arrive. */
  expected({ published, refused, unanswered }: Publishes): number {
    return (published - refused.length - unanswered.length) * this.#deliveriesPerEvent;
  }

  report(publishes: Publishes): TallyReport {
    const refused = new Set(publishes.refused);
    const unanswered = new Set(publishes.unanswered);
    let missing = 0;
    let uninvited = 0;
    this.#lives.forEach((life, delivery) => {
      const sequence = Math.floor(delivery / this.#deliveriesPerEvent);
      const sent = sequence < publishes.published && !refused.has(sequence);
      if (sent && life === 0 && !unanswered.has(sequence)) missing += 1;
      if (!sent && life !== 0) uninvited += 1;
    });
    return {
      expected: this.expected(publishes),
      arrived: this.#arrived,
      missing,
      duplicates: this.#duplicates,
      repeats: this.#repeats,
      strays: this.#strays + uninvited,
      firstArrivalUs: this.#firstArrivalUs,
      lastArrivalUs: this.#lastArrivalUs,
      latency: distributionOf(this.#latenciesUs.slice(0, this.#arrived)),
    };
  }
}
