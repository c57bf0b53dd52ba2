import { BinaryRows } from './binary-rows.ts';
import { writeInt16, writeInt32 } from './binary-values.ts';

/**
 * Writes the messages that carry the rows of a `COPY … FROM STDIN (FORMAT binary)`: one CopyData with all of them, and
 * CopyDone (PostgreSQL's documentation: "COPY", binary format, and "Message Formats"). Each value must be of just the
 * type of its column. It is the cheapest way for rows into a table: the server puts many on a page at once and logs them
 * together.
 */
export class CopyRows extends BinaryRows {
  constructor(columns: number) {
    super(columns, BEFORE_ROWS.length);
  }

  override row(): void {
    this.room(2);
    this.rows += 1;
    this.at = writeInt16(this.desk, this.columns, this.at);
  }

  /** The messages with all rows since the last call. */
  finish(): Buffer {
    this.room(2 + COPY_DONE.length);
    const { desk } = this;
    desk.set(BEFORE_ROWS, 0);
    this.at = writeInt16(desk, NO_MORE_ROWS, this.at);
    writeInt32(desk, this.at - 1, 1);
    desk.set(COPY_DONE, this.at);
    this.at += COPY_DONE.length;
    return this.take();
  }

  protected override head(): void {}
}

/** CopyData without its length, the signature, and two words that say nothing: no flags, no more header. */
const BEFORE_ROWS = Buffer.from('d\0\0\0\0PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const COPY_DONE = Buffer.from('c\0\0\0\x04', 'latin1');
const NO_MORE_ROWS = -1;
