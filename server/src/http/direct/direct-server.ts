import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../../kernel/clock.ts';
import { DirectConnection, type DirectRoute } from './direct-connection.ts';
import { ReadingRoom } from './reading-room.ts';

/** How often connections are looked at that are idle or unfinished. */
const SWEEP_MS = 5_000;

/** Bytes of unfinished bodies: sixty of the largest. */
const READING_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Stands before an HTTP server and serves the plain requests of one route straight from their sockets. As soon as
 * anything else comes on a connection, that connection is the server's.
 *
 * For the route of which there are thousands a second, the way through the server costs more than what it asks for.
 */
export class DirectServer {
  readonly #connections = new Set<DirectConnection>();
  #cancelSweep: () => void;
  #closing = false;

  /** The server does not listen yet. */
  constructor(server: Server, clock: Clock, route: DirectRoute, readingBytesMax = READING_BYTES_MAX) {
    const toServer = server.listeners('connection') as ((socket: Socket) => void)[];
    const room = new ReadingRoom(readingBytesMax);
    server.removeAllListeners('connection');
    server.on('connection', (socket) => {
      const connection = new DirectConnection({
        socket,
        clock,
        route,
        room,
        onLeave: (remains) => {
          this.#connections.delete(connection);
          if (!remains) return;
          for (const listener of toServer) listener.call(server, socket);
          socket.resume();
        },
      });
      this.#connections.add(connection);
      if (this.#closing) connection.close();
    });
    const sweep = () => {
      const nowMs = clock.monotonicMs();
      for (const connection of this.#connections) connection.sweep(nowMs);
      this.#cancelSweep = clock.after(SWEEP_MS, sweep);
    };
    this.#cancelSweep = clock.after(SWEEP_MS, sweep);
  }

  /** Answers what is under way and ends the connections; those that the server has by now are not its own. */
  close(): void {
    this.#closing = true;
    this.#cancelSweep();
    for (const connection of this.#connections) connection.close();
  }

  /** Cuts the connections that are left. */
  destroy(): void {
    for (const connection of this.#connections) connection.destroy();
  }
}
