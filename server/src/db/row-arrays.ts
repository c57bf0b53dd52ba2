import { OID, UTF8_BYTES_MAX, writeInt32, writeText, writeTimestamp, writeUuid } from './binary-values.ts';

/**
 * Writes an array of rows in PostgreSQL's binary format (src/backend/utils/adt: array_recv in arrayfuncs.c, record_recv
 * in rowtypes.c). The driver sends a Buffer as a binary parameter, so a batch statement takes its rows as one Buffer:
 * nothing is quoted or escaped, the server parses no text, and payload bytes go through as they are.
 *
 * For each row call `row`, then one method a column in the order of the type. A null is written as such by each of them.
 */
export class RowArray {
  readonly #columns: number;
  #desk = Buffer.allocUnsafeSlow(DESK_BYTES);
  #at = ARRAY_HEADER_BYTES;
  /** Where the row being written begins. */
  #rowAt = 0;
  #rows = 0;

  constructor(columns: number) {
    this.#columns = columns;
  }

  row(): void {
    this.#endRow();
    this.#room(8);
    this.#rows += 1;
    this.#rowAt = this.#at;
    // The length of the row goes before the number of its columns when it is known.
    this.#at += 4;
    this.#int32(this.#columns);
  }

  uuid(value: string | null): void {
    if (value === null) {
      this.#null(OID.uuid);
      return;
    }
    this.#head(OID.uuid, 16);
    this.#at = writeUuid(this.#desk, value, this.#at);
  }

  int(value: number | null): void {
    if (value === null) {
      this.#null(OID.int4);
      return;
    }
    this.#head(OID.int4, 4);
    this.#int32(value);
  }

  boolean(value: boolean): void {
    this.#head(OID.bool, 1);
    this.#desk[this.#at] = value ? 1 : 0;
    this.#at += 1;
  }

  /** Milliseconds since the Unix epoch; `Infinity` is PostgreSQL's 'infinity'. */
  timestamp(value: number | null): void {
    if (value === null) {
      this.#null(OID.timestamptz);
      return;
    }
    this.#head(OID.timestamptz, 8);
    this.#at = writeTimestamp(this.#desk, value, this.#at);
  }

  text(value: string | null): void {
    if (value === null) {
      this.#null(OID.text);
      return;
    }
    this.#head(OID.text, value.length * UTF8_BYTES_MAX);
    const bytes = writeText(this.#desk, value, this.#at);
    writeInt32(this.#desk, bytes, this.#at - 4);
    this.#at += bytes;
  }

  bytes(value: Buffer | null): void {
    if (value === null) {
      this.#null(OID.bytea);
      return;
    }
    this.#head(OID.bytea, value.length);
    this.#desk.set(value, this.#at);
    this.#at += value.length;
  }

  /** The array of all rows since the last call. */
  finish(): Buffer {
    this.#endRow();
    const desk = this.#desk;
    writeInt32(desk, this.#rows > 0 ? 1 : 0, 0);
    // No element is null as a whole.
    writeInt32(desk, 0, 4);
    // What the elements are, PostgreSQL (14 and later) takes from the statement when this names no built-in type.
    writeInt32(desk, 0, 8);
    writeInt32(desk, this.#rows, 12);
    writeInt32(desk, 1, 16);
    // An array without elements is a header without dimensions.
    const array = Buffer.from(desk.subarray(0, this.#rows > 0 ? this.#at : 12));
    this.#rows = 0;
    this.#at = ARRAY_HEADER_BYTES;
    if (desk.length > DESK_BYTES_KEPT) this.#desk = Buffer.allocUnsafeSlow(DESK_BYTES);
    return array;
  }

  #endRow(): void {
    if (this.#rows > 0) writeInt32(this.#desk, this.#at - this.#rowAt - 4, this.#rowAt);
  }

  #null(oid: number): void {
    this.#head(oid, 0);
    writeInt32(this.#desk, -1, this.#at - 4);
  }

  /** Type and length of the next value, and room for it. */
  #head(oid: number, length: number): void {
    this.#room(8 + length);
    this.#int32(oid);
    this.#int32(length);
  }

  #int32(value: number): void {
    this.#at = writeInt32(this.#desk, value, this.#at);
  }

  #room(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#desk.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#desk.length * 2));
    larger.set(this.#desk.subarray(0, this.#at));
    this.#desk = larger;
  }
}

const ARRAY_HEADER_BYTES = 20;
const DESK_BYTES = 64 * 1024;
const DESK_BYTES_KEPT = 1024 * 1024;
