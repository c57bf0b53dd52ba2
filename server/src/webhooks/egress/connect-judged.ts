import net from 'node:net';
import { type EgressProxy, EgressProxyError, openTunnel } from './proxy.ts';

export type ConnectResult =
  | { ok: true; socket: net.Socket; addresses: readonly string[] }
  | { ok: false; error: Error };

/**
 * Connects to one of a host's judged addresses. Nothing is looked up here, so nothing else can be dialled: sockets get
 * the addresses themselves. Returns what stops it; `done` is not called after that.
 */
export function connectToAddresses(
  addresses: readonly string[],
  port: number,
  onread: net.OnReadOpts | undefined,
  done: (result: ConnectResult) => void,
): () => void {
  const dialled = addresses.slice(0, DIALLED_MAX).map((address) => ({ address, family: net.isIP(address) }));
  const socket = net.connect({
    // A socket tries several addresses only when it has a name and a lookup.
    host: 'judged.invalid',
    port,
    lookup: (_host, _options, callback) => callback(null, dialled),
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: ATTEMPT_MS,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_PROBE_MS,
    ...(onread && { onread }),
  });
  const fail = (error: Error) => done({ ok: false, error });
  socket.once('error', fail);
  socket.once('connect', () => {
    socket.off('error', fail);
    done({ ok: true, socket, addresses });
  });
  return () => {
    socket.removeAllListeners();
    socket.on('error', () => {}).destroy();
  };
}

/** The same through a proxy, which is asked for one address after the other. */
export function connectThroughProxy(
  proxy: EgressProxy,
  addresses: readonly string[],
  port: number,
  done: (result: ConnectResult) => void,
): () => void {
  let stop = (): void => {};
  const tryFrom = (at: number, before: EgressProxyError) => {
    const address = addresses[at];
    if (address === undefined || at === TUNNELS_MAX) {
      done({ ok: false, error: before });
      return;
    }
    stop = openTunnel(proxy, { address, port }, (result) => {
      if ('socket' in result) done({ ok: true, socket: result.socket, addresses });
      else tryFrom(at + 1, result.error);
    });
  };
  tryFrom(0, new EgressProxyError('There is no address to connect to.'));
  return () => stop();
}

/** Addresses of a name that are tried; its other ones are judged all the same. */
const DIALLED_MAX = 8;
const TUNNELS_MAX = 3;

/**
 * How long one of several addresses is tried before the next. Node's 250 ms would give up on a receiver at the other
 * end of the world, and the exchange's own deadline bounds all of it.
 */
const ATTEMPT_MS = 1_000;

const KEEP_ALIVE_PROBE_MS = 60_000;
