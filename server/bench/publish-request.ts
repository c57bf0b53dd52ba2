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
  eventType: string;
  /** Events of one request: 1 is a single publish, more are the array of a batch. */
  batchSize: number;
  /** Header lines beside those of every JSON request. */
  headers: Readonly<Record<string, string>>;
}

/** Bytes of `data` of each event, as JSON. */
const DATA_BYTES = 300;
const RUN_DIGITS = 4;
const SEQUENCE_DIGITS = 8;
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
  readonly #markers: number[] = [];

  constructor(options: PublishRequestOptions) {
    this.batchSize = options.batchSize;
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
    for (let at = this.bytes.indexOf(MARKER_KEY); at !== -1; at = this.bytes.indexOf(MARKER_KEY, at + 1)) {
      this.#markers.push(at + MARKER_KEY.length);
    }
  }

  /** Writes the markers of consecutive events, beginning with this one. */
  stamp(first: Marker): void {
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
  if (key === -1) return undefined;
  const at = key + MARKER_KEY.length;
  const [run, sequence, sentUs] = body
    .toString('latin1', at, at + EMPTY_MARKER.length)
    .split('-')
    .map(Number);
  if (run === undefined || sequence === undefined || sentUs === undefined) return undefined;
  return Number.isNaN(run + sequence + sentUs) ? undefined : { run, sequence, sentUs };
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

function writeDigits(bytes: Buffer, at: number, digits: number, value: number): void {
  let left = value;
  for (let index = at + digits - 1; index >= at; index--) {
    const next = Math.floor(left / 10);
    bytes[index] = 48 + left - next * 10;
    left = next;
  }
}
