import { once } from 'node:events';
import net from 'node:net';

/** An answer as it came over the wire. */
export interface WireAnswer {
  status: number;
  /** Names in lower case. */
  headers: Record<string, string>;
  text: string;
}

/** A connection on which bytes are sent as they are. */
export interface Wire {
  socket: net.Socket;
  /** Answers that are whole by now. */
  answers(): WireAnswer[];
  /** Resolves with all answers when so many have come, or when the connection is closed. */
  until(count: number): Promise<WireAnswer[]>;
  closed: Promise<void>;
  isClosed(): boolean;
}

export async function connectWire(url: string): Promise<Wire> {
  const socket = net.connect({ host: '127.0.0.1', port: Number(new URL(url).port) });
  socket.setNoDelay(true);
  let received = '';
  let isClosed = false;
  const watchers = new Set<() => void>();
  const tell = () => {
    for (const watcher of watchers) watcher();
  };
  socket.on('data', (bytes) => {
    received += bytes.toString('latin1');
    tell();
  });
  // A server that closes while more is on its way resets; what it answered counts.
  socket.on('error', () => {});
  const closed = new Promise<void>((resolve) => {
    socket.on('close', () => {
      isClosed = true;
      tell();
      resolve();
    });
  });
  await once(socket, 'connect');
  return {
    socket,
    answers: () => readAnswers(received),
    closed,
    isClosed: () => isClosed,
    until: (count) =>
      new Promise((resolve) => {
        const look = () => {
          const found = readAnswers(received);
          if (found.length < count && !isClosed) return;
          watchers.delete(look);
          resolve(found);
        };
        watchers.add(look);
        look();
      }),
  };
}

/**
 * Sends the bytes, behind what comes `first` and is answered, and behind their answer a request of which it is known what
 * comes of it, if the connection is still open then. All answers to the bytes, until the connection is closed: one too
 * many is a request that nobody has sent.
 */
export async function exchange(url: string, bytes: string | Buffer, first?: string): Promise<Exchange> {
  const wire = await connectWire(url);
  if (first !== undefined) {
    wire.socket.write(first, 'latin1');
    await wire.until(1);
  }
  const before = first === undefined ? 0 : 1;
  wire.socket.write(bytes as string, 'latin1');
  await wire.until(before + 1);
  const open = !wire.isClosed();
  if (open) wire.socket.write(LAST_REQUEST);
  await wire.closed;
  const answers = wire.answers().slice(before);
  const last = answers.at(-1);
  const kept = open && last?.status === 404 && last.text.includes('path');
  return { answers: kept ? answers.slice(0, -1) : answers, kept };
}

export interface Exchange {
  answers: WireAnswer[];
  /** The connection was good for another request after them. */
  kept: boolean;
}

/** What `exchange` sends at last; its answer is a 404. */
const LAST_REQUEST = 'GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';

function readAnswers(received: string): WireAnswer[] {
  const found: WireAnswer[] = [];
  for (let from = 0; from < received.length; ) {
    const headEnd = received.indexOf('\r\n\r\n', from);
    if (headEnd === -1) break;
    const [statusLine = '', ...lines] = received.slice(from, headEnd).split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(statusLine)?.[1]);
    const headers = Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    );
    const start = headEnd + 4;
    // An answer to HEAD has a length and no body; nothing begins as bodies do but those.
    const bytes = '{<a'.includes(received[start] ?? '-') ? Number(headers['content-length'] ?? 0) : 0;
    const end = start + bytes;
    if (Number.isNaN(status)) throw new Error(`This is no answer: ${JSON.stringify(received.slice(from, from + 200))}`);
    if (end > received.length) break;
    found.push({ status, headers, text: received.slice(start, end) });
    from = end;
  }
  return found.filter(({ status }) => status !== 100);
}
