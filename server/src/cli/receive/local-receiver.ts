import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import type { Clock } from '../../kernel/clock.ts';
import { CommandError } from '../command-error.ts';

/** A complete request. */
export interface ArrivedRequest {
  /** Wall time at which it was complete, milliseconds since the Unix epoch. */
  atMs: number;
  method: string;
  /** As sent, with its query. */
  path: string;
  /** By lower-case name; a header that was sent twice has two values. */
  headers: NodeJS.Dict<string[]>;
  /** Unpacked when it came as gzip: Posthorn signs a body before it compresses it. */
  body: Buffer;
}

export interface LocalReceiverOptions {
  /** 0 takes a free one. */
  port: number;
  /** Status of every answer. */
  status: number;
  clock: Clock;
  onRequest(arrived: ArrivedRequest): void;
}

/** An HTTP server on 127.0.0.1 that takes whatever comes, on any path and with any method. */
export interface LocalReceiver {
  port: number;
  /** Ends the connections. Resolves when the port is free again. */
  stop(): Promise<void>;
}

/** A body that is larger, as it comes or unpacked, is answered with 413. */
const BODY_BYTES_MAX = 16_777_216;

/** @throws CommandError when the port is taken or may not be used. */
export async function startLocalReceiver(options: LocalReceiverOptions): Promise<LocalReceiver> {
  const server = createServer((request, response) => {
    // A sender that goes away in the middle of a request has sent nothing that could be shown.
    answer(request, response, options).catch(() => response.destroy());
  });
  const listening = Promise.withResolvers<void>();
  server.once('error', listening.reject);
  server.listen(options.port, '127.0.0.1', listening.resolve);
  try {
    await listening.promise;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const reason = code === 'EADDRINUSE' ? 'is taken' : `cannot be used (${code})`;
    throw new CommandError(`Port ${options.port} ${reason}: choose another with --port.`);
  }
  return {
    port: (server.address() as AddressInfo).port,
    stop: () => {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      server.closeAllConnections();
      return closed.promise;
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: LocalReceiverOptions,
): Promise<void> {
  const sent = await readBody(request);
  const body = sent !== undefined && request.headers['content-encoding'] === 'gzip' ? unpack(sent) : sent;
  if (body === undefined) {
    // Closed rather than read to its end.
    response.writeHead(413, { connection: 'close' }).end();
    return;
  }
  options.onRequest({
    atMs: options.clock.now(),
    method: request.method ?? '',
    path: request.url ?? '',
    headers: request.headersDistinct,
    body,
  });
  response.writeHead(options.status).end();
}

/** Undefined when it is larger than `BODY_BYTES_MAX`. */
async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The body as it is when it is no gzip after all; undefined when it unpacks to more than `BODY_BYTES_MAX`. */
function unpack(body: Buffer): Buffer | undefined {
  try {
    return gunzipSync(body, { maxOutputLength: BODY_BYTES_MAX });
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE' ? undefined : body;
  }
}
