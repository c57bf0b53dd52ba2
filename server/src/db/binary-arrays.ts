/**
 * Array parameters in PostgreSQL's binary format (src/backend/utils/adt/arrayfuncs.c, array_recv). The driver sends a
 * Buffer as a binary parameter, so a batch statement takes one Buffer a column: no quoting, no escaping, no text to
 * parse on the server, and payload bytes go through as they are.
 *
 * Some thirty arrays are written for each batch, so an element costs 20 to 200 ns: what repeats the element before it,
 * as an id or a status of a batch mostly does, is copied from there, and short texts are written without a call.
 */
import { OID, UTF8_BYTES_MAX, writeInt32, writeText, writeTimestamp, writeUuid } from './binary-values.ts';

export function uuidArray(values: readonly (string | null)[]): Buffer {
  const array = begin(OID.uuid, values, 16);
  let last: string | null = null;
  let lastAt = 0;
  let at = HEADER_BYTES;
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index] as string | null;
    if (value === null) {
      at = writeLength(array, -1, at);
      continue;
    }
    at = writeLength(array, 16, at);
    if (value === last) array.copyWithin(at, lastAt, lastAt + 16);
    else writeUuid(array, value, at);
    last = value;
    lastAt = at;
    at += 16;
  }
  return array.subarray(0, at);
}

export function intArray(values: readonly (number | null)[]): Buffer {
  const array = begin(OID.int4, values, 4);
  let at = HEADER_BYTES;
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index] as number | null;
    at = writeLength(array, value === null ? -1 : 4, at);
    if (value !== null) at = writeInt32(array, value, at);
  }
  return array.subarray(0, at);
}

export function booleanArray(values: readonly boolean[]): Buffer {
  const array = begin(OID.bool, values, 1);
  let at = HEADER_BYTES;
  for (const value of values) {
    at = writeLength(array, 1, at);
    array[at] = value ? 1 : 0;
    at += 1;
  }
  return array;
}

/** Milliseconds since the Unix epoch; `Infinity` is PostgreSQL's 'infinity'. */
export function timestampArray(values: readonly (number | null)[]): Buffer {
  const array = begin(OID.timestamptz, values, 8);
  let at = HEADER_BYTES;
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index] as number | null;
    at = writeLength(array, value === null ? -1 : 8, at);
    if (value !== null) at = writeTimestamp(array, value, at);
  }
  return array.subarray(0, at);
}

export function textArray(values: readonly (string | null)[]): Buffer {
  if (values.length === 0) return begin(OID.text, values, 0);
  let room = HEADER_BYTES;
  for (let index = 0; index < values.length; index += 1) {
    room += 4 + (values[index]?.length ?? 0) * UTF8_BYTES_MAX;
  }
  // Encoded where there is room for the worst, then copied to a buffer of its size.
  const desk = room <= DESK_BYTES ? DESK : Buffer.allocUnsafeSlow(room);
  writeHeader(desk, OID.text, values);
  let last: string | null = null;
  let lastAt = 0;
  let lastBytes = 0;
  let at = HEADER_BYTES;
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index] as string | null;
    if (value === null) {
      at = writeLength(desk, -1, at);
      continue;
    }
    if (value === last) desk.copyWithin(at + 4, lastAt, lastAt + lastBytes);
    else lastBytes = writeText(desk, value, at + 4);
    at = writeLength(desk, lastBytes, at);
    last = value;
    lastAt = at;
    at += lastBytes;
  }
  return Buffer.from(desk.subarray(0, at));
}

export function bytesArray(values: readonly (Buffer | null)[]): Buffer {
  let bytes = 0;
  for (let index = 0; index < values.length; index += 1) bytes += values[index]?.length ?? 0;
  const array = begin(OID.bytea, values, 0, bytes);
  let at = HEADER_BYTES;
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index] as Buffer | null;
    at = writeLength(array, value === null ? -1 : value.length, at);
    if (value === null) continue;
    array.set(value, at);
    at += value.length;
  }
  return array;
}

const HEADER_BYTES = 20;

/** Texts are encoded here; nothing of them is kept. */
const DESK_BYTES = 512 * 1024;
const DESK = Buffer.allocUnsafeSlow(DESK_BYTES);

/** A buffer with the header written and room for every element; an empty array is a header of zero dimensions. */
function begin(elementOid: number, values: readonly unknown[], elementBytes: number, extraBytes = 0): Buffer {
  if (values.length === 0) {
    const empty = Buffer.alloc(12);
    empty.writeInt32BE(elementOid, 8);
    return empty;
  }
  const array = Buffer.allocUnsafe(HEADER_BYTES + values.length * (4 + elementBytes) + extraBytes);
  writeHeader(array, elementOid, values);
  return array;
}

function writeHeader(array: Buffer, elementOid: number, values: readonly unknown[]): void {
  array.writeInt32BE(1, 0);
  array.writeInt32BE(values.includes(null) ? 1 : 0, 4);
  array.writeInt32BE(elementOid, 8);
  array.writeInt32BE(values.length, 12);
  array.writeInt32BE(1, 16);
}

/** Bytes of the next element; -1 for null. Returns where it begins. */
const writeLength = writeInt32;
