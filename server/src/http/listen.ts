import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { StartupError } from '../kernel/startup-error.ts';
import type { HttpServer } from './server.ts';

export interface ListenAddress {
  host: string;
  /** 0: any that is free. */
  port: number;
}

/**
 * For one process of several on an address: where the system can, each has a queue of its own for new connections. One
 * that is killed takes those in its queue with it, and their callers know at once. Through `node:cluster`, a connection
 * handed to a process that has just died stays open for ever, and nobody answers.
 */
const SHARED = process.platform === 'linux' || process.platform === 'freebsd' ? { reusePort: true } : {};

/** Resolves with the URL. @throws StartupError when the address cannot be listened on. */
export async function listen(http: HttpServer, address: ListenAddress, options: { shared: boolean }): Promise<string> {
  try {
    return await http.listen({ ...address, ...(options.shared && SHARED) });
  } catch (error) {
    throw refusal(error, address);
  }
}

/**
 * The port for several processes, chosen before they start: each must get the same. That another program listens on it
 * is found here, for those who share a port do not see who else does.
 *
 * @throws StartupError when the address cannot be listened on.
 */
export async function findSharedPort(address: ListenAddress): Promise<number> {
  const server = createServer();
  try {
    server.listen(address.port, address.host);
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  } catch (error) {
    throw refusal(error, address);
  } finally {
    server.close();
  }
}

function refusal(error: unknown, { host, port }: ListenAddress): unknown {
  switch (error instanceof Error && 'code' in error ? error.code : undefined) {
    case 'EADDRINUSE':
      return new StartupError(
        `${host}:${port} is taken by another program: stop it, or set POSTHORN_PORT to a free port.`,
      );
    case 'EACCES':
      return new StartupError(
        `${host}:${port} may not be listened on: ports under 1024 need more rights. Set POSTHORN_PORT.`,
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new StartupError(`${host} is not an address of this machine. Set POSTHORN_HOST.`);
    default:
      return error;
  }
}
