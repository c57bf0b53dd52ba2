import type { ServerResponse } from 'node:http';
import type { Clock } from '../kernel/clock.ts';
import { timeOfId } from '../kernel/ids.ts';
import type { Wanted } from './filter.ts';
import { type Message, textOf } from './message.ts';

/** Bytes that wait in memory for one listener to read; who has more to read is cut off. */
export const BACKLOG_BYTES_MAX = 1_048_576;

/** How long a listener that is sent what it missed may take for each page of it. */
const READING_MS_MAX = 30_000;

/** Why a stream ends; the last message says it, but to a listener who does not read. */
export type StreamEnd = 'access_ended' | 'stopping';

/** Why a stretch of time is missing from the stream. */
export type GapReason = 'too_old' | 'too_much' | 'falling_behind';

/** One connection of the live stream. */
export class Listener {
  readonly #wants: Wanted;
  readonly #response: ServerResponse;
  readonly #clock: Clock;
  readonly #onSlow: () => void;
  #closed = false;
  #written = 0;
  #taken = 0;
  #takenAtBeat = -1;

  constructor(options: {
    response: ServerResponse;
    wants: Wanted;
    clock: Clock;
    onSlow: () => void;
    onClose: () => void;
  }) {
    this.#wants = options.wants;
    this.#response = options.response;
    this.#clock = options.clock;
    this.#onSlow = options.onSlow;
    this.#response.once('close', () => {
      this.#closed = true;
      options.onClose();
    });
    // A client that goes away in the middle of a write.
    this.#response.on('error', () => {});
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Bytes that wait in memory to be read. */
  get backlogBytes(): number {
    return this.#closed ? 0 : this.#response.writableLength;
  }

  /**
   * Sends what it wants of these. `late`: they come after others of a later time, and the place to resume from stays
   * where it is.
   */
  send(messages: readonly Message[], late = false): void {
    let lines = '';
    for (const message of messages) {
      if (this.#wants(message)) lines += late ? `${message.text}\n` : `id: ${message.id}\n${message.text}\n`;
    }
    if (lines !== '') this.#write(lines);
  }

  /** The stream has begun; from here on it can be resumed. */
  begin(id: string, resumed: boolean): void {
    this.#write(`id: ${id}\n${textOf('ready', { resumed, at: timeText(id) })}\n`);
  }

  /** What happened in between is not sent. */
  gap(after: string, upTo: string, reason: GapReason): void {
    const data = { since: timeText(after), until: timeText(upTo), reason };
    this.#write(`id: ${upTo}\n${textOf('gap', data)}\n`);
  }

  /** Keeps the connection from being taken for dead, and moves on the place to resume from: a client has no event of it. */
  beat(id: string | undefined): void {
    // Something waits, and nothing was taken since the last one.
    if (this.#taken < this.#written && this.#taken === this.#takenAtBeat) {
      this.cut();
      return;
    }
    this.#takenAtBeat = this.#taken;
    this.#write(`${id === undefined ? '' : `id: ${id}\n`}: heartbeat\n\n`);
  }

  end(reason: StreamEnd): void {
    if (this.#closed) return;
    this.#response.end(textOf('end', { reason }).concat('\n'));
    this.#closed = true;
  }

  /** The listener does not read: what waits for it is thrown away. */
  cut(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onSlow();
    this.#response.destroy();
  }

  /** Resolves when what was sent has been read, or the stream has ended; who takes too long is cut off. */
  async read(): Promise<void> {
    if (this.#closed || !this.#response.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        cancel();
        this.#response.off('drain', done).off('close', done);
        resolve();
      };
      const cancel = this.#clock.after(READING_MS_MAX, () => {
        this.cut();
        done();
      });
      this.#response.once('drain', done).once('close', done);
    });
  }

  #write(text: string): void {
    if (this.#closed) return;
    this.#written += 1;
    this.#response.write(text, () => {
      this.#taken += 1;
    });
    if (this.#response.writableLength > BACKLOG_BYTES_MAX) this.cut();
  }
}

function timeText(id: string): string {
  return new Date(timeOfId(id)).toISOString();
}
