import type pg from 'pg';
import { writeInt16, writeInt32 } from './binary-values.ts';

/** One statement of a pipeline. */
export interface Step {
  /** Stands for its text: a connection prepares it the first time. */
  name: string;
  text: string;
  /** A Buffer is a binary value. */
  values?: readonly (Buffer | string | null)[];
  /** For a `COPY … FROM STDIN (FORMAT binary)`, made by `CopyRows`. */
  rows?: Buffer;
}

/**
 * Executes statements one after the other in one transaction and one round trip, rows of COPYs among them. All of it is
 * sent at once; a statement that fails undoes those before it, and those behind it are not executed.
 *
 * PostgreSQL treats what comes before a Sync message as one transaction (its documentation: "Pipelining"), unless one
 * was begun before, which then goes on. `name` is for those who look at what is sent.
 *
 * @throws what the driver throws. The connection is of no more use then, as it may not have prepared what it was told
 * to: a pool closes it by itself, and who has taken one out of a pool releases it with the error.
 */
export function runPipeline(connection: pg.Pool | pg.PoolClient, name: string, steps: readonly Step[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error | null) => (error ? reject(error) : resolve());
    // The types know no callback beside an object that submits itself.
    (connection as unknown as Submits).query(new Pipeline(name, steps), done);
  });
}

interface Submits {
  query(pipeline: Pipeline, done: (error?: Error | null) => void): void;
}

/** What the driver calls a submittable: it writes its own messages, and is told what comes back until ReadyForQuery. */
class Pipeline implements pg.Submittable {
  readonly name: string;
  /** Set by the driver. */
  callback: ((error: Error | null) => void) | undefined;
  readonly #steps: readonly Step[];

  constructor(name: string, steps: readonly Step[]) {
    this.name = name;
    this.#steps = steps;
  }

  submit(connection: pg.Connection): void {
    const { stream } = connection;
    const prepared = preparedBy(connection);
    stream.cork();
    for (const step of this.#steps) {
      if (!prepared.has(step.name)) {
        prepared.add(step.name);
        stream.write(parseMessage(step));
      }
      stream.write(bindMessage(step));
      if (step.rows !== undefined) stream.write(step.rows);
    }
    stream.write(SYNC);
    stream.uncork();
  }

  handleError(error: Error): void {
    this.callback?.(error);
  }

  handleReadyForQuery(): void {
    this.callback?.(null);
  }

  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleCommandComplete(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}
  /** The rows are on their way already. */
  handleCopyInResponse(): void {}
  handleCopyData(): void {}
}

const preparedNames = new WeakMap<pg.Connection, Set<string>>();

function preparedBy(connection: pg.Connection): Set<string> {
  let names = preparedNames.get(connection);
  if (names === undefined) {
    names = new Set();
    preparedNames.set(connection, names);
  }
  return names;
}

/** Parse: its name, its text, and no types of parameters, which the text says itself. */
function parseMessage({ name, text }: Step): Buffer {
  return message('P', Buffer.from(`${name}\0${text}\0\0\0`));
}

/** Bind of the unnamed portal, and Execute. */
function bindMessage({ name, values = [] }: Step): Buffer {
  const sizes = values.map((value) => (value === null ? 0 : Buffer.byteLength(value)));
  const nameBytes = Buffer.byteLength(name);
  const length = 4 + 1 + nameBytes + 1 + 2 + 2 * values.length + 2 + sizes.reduce((sum, size) => sum + 4 + size, 0) + 2;
  const bind = Buffer.allocUnsafe(1 + length);
  bind[0] = BIND;
  let at = writeInt32(bind, length, 1);
  bind[at] = 0;
  at += 1 + bind.write(`${name}\0`, at + 1);
  at = writeInt16(bind, values.length, at);
  for (const value of values) at = writeInt16(bind, Buffer.isBuffer(value) ? BINARY : TEXT, at);
  at = writeInt16(bind, values.length, at);
  for (const [index, value] of values.entries()) {
    const size = sizes[index] as number;
    at = writeInt32(bind, value === null ? -1 : size, at);
    if (typeof value === 'string') bind.write(value, at);
    else if (value !== null) bind.set(value, at);
    at += size;
  }
  // No format codes for results: all as text, which nobody reads.
  writeInt16(bind, 0, at);
  return Buffer.concat([bind, EXECUTE]);
}

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type);
  writeInt32(head, 4 + body.length, 1);
  return Buffer.concat([head, body]);
}

const BIND = 'B'.charCodeAt(0);
const TEXT = 0;
const BINARY = 1;
/** The unnamed portal, all rows. */
const EXECUTE = message('E', Buffer.alloc(5));
const SYNC = message('S', Buffer.alloc(0));
