import type { Root } from './field-path.ts';
import { ExactNumber, mayBeInexact } from './numeric.ts';

/** What filters may ask of an event. */
export interface FilteredContent {
  type: string;
  /** The publisher's own id; null: it gave none. */
  eventId: string | null;
  occurredAtMs: number;
  /** JSON text. */
  data: Buffer;
  /** The data parsed, where that was done already; undefined: it is parsed when a filter asks. */
  dataValue?: unknown;
  /** JSON text. */
  metadata: Buffer | null;
}

/** An event while filters look at it: what several of them need is made once, and nothing that none of them needs. */
export class FilteredEvent {
  readonly #content: FilteredContent;
  #plain: { value: unknown } | undefined;
  #exact: { value: unknown } | undefined;
  #metadata: { value: unknown } | undefined;
  readonly #folded = new Map<string, string>();
  #work = 0;

  constructor(content: FilteredContent) {
    this.#content = content;
    if (content.dataValue !== undefined) this.#plain = { value: content.dataValue };
  }

  /** What was done so far; a unit takes some 20 to 200 ns. */
  get work(): number {
    return this.#work;
  }

  spend(units: number): void {
    this.#work += units;
  }

  /** undefined: there is none. `exact`: numbers that a double may not hold are `ExactNumber`s. */
  root(root: Root, exact: boolean): unknown {
    switch (root) {
      case 'data':
        return exact ? this.#exactData() : this.#data();
      case 'metadata':
        this.#metadata ??= { value: parseExactly(this.#content.metadata ?? NOTHING) };
        return this.#metadata.value;
      case 'event_type':
        return this.#content.type;
      case 'event_id':
        return this.#content.eventId ?? undefined;
      case 'timestamp':
        return new Date(this.#content.occurredAtMs).toISOString();
    }
  }

  /** A text without regard to case. Long ones are kept, since several filters may look at the same. */
  fold(text: string): string {
    if (text.length < KEPT_LENGTH_MIN) return fold(text);
    let folded = this.#folded.get(text);
    if (folded === undefined) {
      folded = fold(text);
      this.#folded.set(text, folded);
      this.spend(text.length / 16);
    }
    return folded;
  }

  #data(): unknown {
    this.#plain ??= { value: JSON.parse(this.#content.data.toString('utf8')) };
    return this.#plain.value;
  }

  #exactData(): unknown {
    if (this.#exact === undefined) {
      const { data } = this.#content;
      this.spend(data.length / 64);
      const isPlain = !mayBeInexact(data.toString('latin1'));
      this.#exact = isPlain ? { value: this.#data() } : { value: parseExactly(data) };
      if (!isPlain) this.spend(data.length);
    }
    return this.#exact.value;
  }
}

/**
 * Texts that differ only in their case, `ß` and `SS` among them, are the same afterwards. By way of the lower case, because
 * some capitals have a small letter whose capital is another: `ẞ`, and the signs for kelvin, ohm and ångström.
 */
export function fold(text: string): string {
  return text.toLowerCase().toUpperCase();
}

const KEPT_LENGTH_MIN = 256;
const NOTHING = Buffer.from('{}');

/** Six times slower than `JSON.parse` alone, so it is done where a number in the text needs it. */
function parseExactly(json: Buffer): unknown {
  const revive = (_name: string, value: unknown, { source }: { source?: string }) =>
    typeof value === 'number' && source !== undefined && mayBeInexact(source) ? new ExactNumber(source) : value;
  // The types do not know the third parameter yet, the text of a scalar.
  return JSON.parse(json.toString('utf8'), revive as (name: string, value: unknown) => unknown);
}
