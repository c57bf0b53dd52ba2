import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { CERTIFICATE, CERTIFICATE_KEY } from '../../webhooks/auth/certificate-fixture.ts';

/** Called with what came in, as often as something does; `number` counts the connections from 1. */
export type Behaviour = (socket: net.Socket, received: string, number: number) => void;

/** A server that does what it likes with its sockets, below HTTP. */
export interface RawReceiver {
  port: number;
  /** Connections so far. */
  connections: number;
  /** Sockets that are open. */
  open: Set<net.Socket>;
  behave: Behaviour;
  /** What to do with a connection before anything came in. */
  onConnection: (socket: net.Socket) => void;
  stop(): Promise<void>;
}

export async function startRawReceiver(behave: Behaviour, options: { tls?: boolean } = {}): Promise<RawReceiver> {
  const receiver: RawReceiver = {
    port: 0,
    connections: 0,
    open: new Set(),
    behave,
    onConnection: () => {},
    async stop() {
      for (const socket of receiver.open) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
  const accept = (socket: net.Socket) => {
    receiver.connections += 1;
    const number = receiver.connections;
    receiver.open.add(socket);
    socket.on('close', () => receiver.open.delete(socket));
    socket.on('error', () => {});
    socket.on('data', (data: Buffer) => receiver.behave(socket, data.toString('latin1'), number));
    receiver.onConnection(socket);
  };
  const server = options.tls
    ? tls.createServer({ cert: CERTIFICATE, key: CERTIFICATE_KEY }, accept).on('tlsClientError', () => {})
    : net.createServer(accept);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  receiver.port = (server.address() as net.AddressInfo).port;
  return receiver;
}

/** A well-formed answer. */
export function answer(body: string, headers = '', status = '200 OK'): string {
  return `HTTP/1.1 ${status}\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`;
}
