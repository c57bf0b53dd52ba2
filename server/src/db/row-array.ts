import { BinaryRows, type ValueType } from './binary-rows.ts';
import { OID, writeInt32 } from './binary-values.ts';

/**
 * Writes an array of a composite type in PostgreSQL's binary format (src/backend/utils/adt: array_recv in arrayfuncs.c,
 * record_recv in rowtypes.c). The driver sends a Buffer as a binary parameter, so a batch statement takes its rows as
 * one Buffer: nothing is quoted or escaped, and the server parses no text.
 */
export class RowArray extends BinaryRows {
  /** Where the row being written begins. */
  #rowAt = 0;

  constructor(columns: number) {
    super(columns, ARRAY_HEADER_BYTES);
  }

  override row(): void {
    this.#endRow();
    this.room(8);
    this.rows += 1;
    this.#rowAt = this.at;
    // The length of the row goes before the number of its columns when it is known.
    this.at = writeInt32(this.desk, this.columns, this.at + 4);
  }

  /** The array of all rows since the last call. */
  finish(): Buffer {
    this.#endRow();
    const { desk, rows } = this;
    writeInt32(desk, rows > 0 ? 1 : 0, 0);
    // No element is null as a whole.
    writeInt32(desk, 0, 4);
    // What the elements are, PostgreSQL (14 and later) takes from the statement when this names no built-in type.
    writeInt32(desk, 0, 8);
    writeInt32(desk, rows, 12);
    writeInt32(desk, 1, 16);
    // An array without elements is a header without dimensions.
    if (rows === 0) this.at = 12;
    return this.take();
  }

  protected override head(type: ValueType): void {
    this.at = writeInt32(this.desk, OID[type], this.at);
  }

  #endRow(): void {
    if (this.rows > 0) writeInt32(this.desk, this.at - this.#rowAt - 4, this.#rowAt);
  }
}

const ARRAY_HEADER_BYTES = 20;
