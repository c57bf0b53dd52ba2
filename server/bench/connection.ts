import { connect, type Socket } from 'node:net';
import { createMessageReader, statusOf } from './http-messages.ts';
import { type Marker, PublishRequest, type PublishRequestOptions } from './publish-request.ts';

/** What became of a request. Nobody knows of an unanswered one whether it was accepted. */
export type PublishOutcome = { kind: 'accepted' } | { kind: 'refused' | 'unanswered'; reason: string };

export type OutcomeListener = (connection: Connection, outcome: PublishOutcome) => void;

const ACCEPTED: PublishOutcome = { kind: 'accepted' };

/** A keep-alive connection with its own request, sent again and again, one at a time. */
export class Connection {
  /** Of the request that is under way, or was last. */
  marker: Marker = { run: 0, sequence: 0, sentUs: 0 };
  readonly #request: PublishRequest;
  readonly #socket: Socket;
  readonly #onOutcome: OutcomeListener;
  #underWay = false;

  static async open(request: PublishRequestOptions, onOutcome: OutcomeListener): Promise<Connection> {
    const socket = connect({ port: request.port, host: '127.0.0.1', noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new Connection(socket, request, onOutcome);
  }

  private constructor(socket: Socket, request: PublishRequestOptions, onOutcome: OutcomeListener) {
    this.#socket = socket;
    this.#request = new PublishRequest(request);
    this.#onOutcome = onOutcome;
    const read = createMessageReader(({ head, body }) => {
      const status = statusOf(head);
      const accepted = status >= 200 && status < 300;
      this.#end(accepted ? ACCEPTED : { kind: 'refused', reason: `${status} ${body.toString('utf8', 0, 200)}` });
    });
    socket.on('data', (bytes) => {
      try {
        read(bytes as Buffer);
      } catch (error) {
        this.fail((error as Error).message);
      }
    });
    socket.on('error', (error) => this.fail(error.message));
    socket.on('close', () => this.fail('the connection was closed'));
  }

  get open(): boolean {
    return !this.#socket.destroyed;
  }

  publish(marker: Marker): void {
    this.marker = marker;
    this.#underWay = true;
    this.#request.stamp(marker);
    this.#socket.write(this.#request.bytes);
  }

  /** Ends the connection; a request under way counts as unanswered for this reason. */
  fail(reason: string): void {
    this.#socket.destroy();
    this.#end({ kind: 'unanswered', reason });
  }

  close(): void {
    this.#socket.destroy();
  }

  #end(outcome: PublishOutcome): void {
    if (!this.#underWay) return;
    this.#underWay = false;
    this.#onOutcome(this, outcome);
  }
}
