/** What each published event carries, so that the sink knows which one arrived and how long it took. */
export interface Marker {
  /** Number of the measurement, 0..9999: a late arrival of an earlier one is told apart. */
  run: number;
  /** Number of the event in its run, 0..99,999,999. */
  sequence: number;
  /** When the event was published, or was due to be; see clock.ts. */
  sentUs: number;
}

export interface PublishRequestOptions {
  port: number;
  path: string;
  /** `#####` in it, and in the headers, is the turn of the event, in five digits. */
  eventType: string;
  /** Events of one request: 1 is a single publish, more are the array of a batch. */
  batchSize: number;
  /** Header lines beside those of every JSON request. */
  headers: Readonly<Record<string, string>>;
  /** Event n has turn n modulo this, 1 to 100,000. The events of a batch have the turn of its first. */
  turns: number;
}

/** Where a request names the turn of its event: one of many tenants, one of many event types. */
export const TURN = '#####';

/** As a request names it. */
export function formatTurn(turn: number): string {
  return String(turn).padStart(TURN.length, '0');
}

/** Bytes of `data` of each event, as JSON. */
const DATA_BYTES = 300;
const RUN_DIGITS = 4;
/** Of a marker's sequence. */
export const SEQUENCE_DIGITS = 8;
const TIME_DIGITS = 16;
const MARKER_KEY = Buffer.from('"bench":"');
const EMPTY_MARKER = [RUN_DIGITS, SEQUENCE_DIGITS, TIME_DIGITS].map((digits) => '0'.repeat(digits)).join('-');

/**
 * The bytes of a publish request, made once; only the digits of its markers change from one sending to the next. A
 * request must not be stamped anew before its answer is there, because the socket may still be reading it.
 */
export class PublishRequest {
  readonly bytes: Buffer;
  readonly batchSize: number;
  readonly #markers: readonly number[];
  readonly #turnsAt: readonly number[];
  readonly #turns: number;

  constructor(options: PublishRequestOptions) {
    this.batchSize = options.batchSize;
    this.#turns = options.turns;
    const event = { event_type: options.eventType, data: eventData() };
    const body = JSON.stringify(
      options.batchSize === 1 ? event : { events: Array.from({ length: options.batchSize }, () => event) },
    );
    const lines = [
      `POST ${options.path} HTTP/1.1`,
      `Host: 127.0.0.1:${options.port}`,
      'Content-Type: application/json',
      `Content-Length: ${Buffer.byteLength(body)}`,
      ...Object.entries(options.headers).map(([name, value]) => `${name}: ${value}`),
    ];
    this.bytes = Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`);
    this.#markers = everyPlaceOf(MARKER_KEY, this.bytes).map((at) => at + MARKER_KEY.length);
    this.#turnsAt = everyPlaceOf(Buffer.from(TURN), this.bytes);
  }

  /** Writes the markers of consecutive events, beginning with this one. */
  stamp(first: Marker): void {
    for (const at of this.#turnsAt) writeDigits(this.bytes, at, TURN.length, first.sequence % this.#turns);
    this.#markers.forEach((at, index) => {
      const sequenceAt = at + RUN_DIGITS + 1;
      writeDigits(this.bytes, at, RUN_DIGITS, first.run);
      writeDigits(this.bytes, sequenceAt, SEQUENCE_DIGITS, first.sequence + index);
      writeDigits(this.bytes, sequenceAt + SEQUENCE_DIGITS + 1, TIME_DIGITS, first.sentUs);
    });
  }
}

/** Finds the marker in the body of a delivery, whatever envelope is around it. */
export function readMarker(body: Buffer): Marker | undefined {
  const key = body.indexOf(MARKER_KEY);
  const at = key + MARKER_KEY.length;
  if (key === -1 || at + EMPTY_MARKER.length > body.length) return undefined;
  const sequenceAt = at + RUN_DIGITS + 1;
  const run = readDigits(body, at, RUN_DIGITS);
  const sequence = readDigits(body, sequenceAt, SEQUENCE_DIGITS);
  const sentUs = readDigits(body, sequenceAt + SEQUENCE_DIGITS + 1, TIME_DIGITS);
  return Number.isNaN(run + sequence + sentUs) ? undefined : { run, sequence, sentUs };
}

/** `data` as it is around the digits of its marker's sequence and time, for events that no request brought. */
export function dataAround(run: number): { before: string; after: string } {
  const [before = '', after = ''] = JSON.stringify(eventData()).split(EMPTY_MARKER);
  const runDigits = String(run).padStart(RUN_DIGITS, '0');
  return { before: `${before}${runDigits}-`, after: `-${'0'.repeat(TIME_DIGITS)}${after}` };
}

/** An order of a web shop, filled up to the size. The marker is text because JSON numbers have no leading zeros. */
function eventData(): Record<string, unknown> {
  const order = {
    bench: EMPTY_MARKER,
    order_id: 'ord_7q2m4k9t',
    customer: { id: 48_213, name: 'Ada Example', email: 'ada@example.com' },
    currency: 'EUR',
    total: 129.9,
    items: [
      { sku: 'A-1001', quantity: 2, price: 39.95 },
      { sku: 'B-2002', quantity: 1, price: 50 },
    ],
    note: '',
  };
  return { ...order, note: 'x'.repeat(DATA_BYTES - JSON.stringify(order).length) };
}

function everyPlaceOf(wanted: Buffer, bytes: Buffer): number[] {
  const places: number[] = [];
  for (let at = bytes.indexOf(wanted); at !== -1; at = bytes.indexOf(wanted, at + 1)) places.push(at);
  return places;
}

function writeDigits(bytes: Buffer, at: number, digits: number, value: number): void {
  let left = value;
  for (let index = at + digits - 1; index >= at; index--) {
    const next = Math.floor(left / 10);
    bytes[index] = 48 + left - next * 10;
    left = next;
  }
}

/** NaN when one of them is no digit. Without strings: it runs for every delivery, beside what is measured. */
function readDigits(bytes: Buffer, at: number, digits: number): number {
  let value = 0;
  for (let index = at; index < at + digits; index++) {
    const digit = (bytes[index] ?? 0) - 48;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  return value;
}
