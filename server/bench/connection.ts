import { connect, type Socket } from 'node:net';
import { createMessageReader, statusOf } from './http-messages.ts';
import { type Marker, PublishRequest, type PublishRequestOptions } from './publish-request.ts';

/** @param problem undefined when the request was accepted. */
export type AnswerListener = (connection: Connection, problem: string | undefined) => void;

/** A keep-alive connection with its own request, sent again and again, one at a time. */
export class Connection {
  /** Of the request that is under way, or was last. */
  marker: Marker = { run: 0, sequence: 0, sentUs: 0 };
  readonly #request: PublishRequest;
  readonly #socket: Socket;
  readonly #onAnswer: AnswerListener;
  #underWay = false;

  static async open(request: PublishRequestOptions, onAnswer: AnswerListener): Promise<Connection> {
    const socket = connect({ port: request.port, host: '127.0.0.1', noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new Connection(socket, request, onAnswer);
  }

  private constructor(socket: Socket, request: PublishRequestOptions, onAnswer: AnswerListener) {
    this.#socket = socket;
    this.#request = new PublishRequest(request);
    this.#onAnswer = onAnswer;
    const read = createMessageReader(({ head, body }) => {
      const status = statusOf(head);
      this.#answered(status >= 200 && status < 300 ? undefined : `${status} ${body.toString('utf8', 0, 200)}`);
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

  /** Ends the connection; a request under way counts as refused for this reason. */
  fail(reason: string): void {
    this.#socket.destroy();
    this.#answered(reason);
  }

  close(): void {
    this.#socket.destroy();
  }

  #answered(problem: string | undefined): void {
    if (!this.#underWay) return;
    this.#underWay = false;
    this.#onAnswer(this, problem);
  }
}
