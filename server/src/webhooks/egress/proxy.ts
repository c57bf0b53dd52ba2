import net from 'node:net';

/** An HTTP proxy that all deliveries go through. */
export interface EgressProxy {
  readonly host: string;
  readonly port: number;
  /** The value of `Proxy-Authorization`; undefined: none is sent. */
  readonly authorization: string | undefined;
}

/** The proxy could not be reached, or would not open a tunnel. The text names neither it nor its credentials. */
export class EgressProxyError extends Error {
  override name = 'EgressProxyError';
}

/** Reads `http://[user:password@]host[:port]`; the port is 80 where none is given. undefined: it is something else. */
export function parseEgressProxy(text: string): EgressProxy | undefined {
  if (!/^http:\/\/[^/?#\s\\]+\/?$/i.test(text) || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  const credentials = readCredentials(url);
  if (url.port === '0' || credentials === undefined) return undefined;
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 80 : Number(url.port),
    authorization: credentials === ':' ? undefined : `Basic ${Buffer.from(credentials).toString('base64')}`,
  };
}

export type TunnelResult = { socket: net.Socket } | { error: EgressProxyError };

/**
 * Asks the proxy for a tunnel to an address (RFC 9110, section 9.3.6) and gives the socket when it is open. An address
 * and not a name, also for plain http: the proxy would look the name up again, and could come to another address than
 * the one that was judged.
 *
 * Returns what stops it; `done` is not called after that.
 */
export function openTunnel(
  proxy: EgressProxy,
  target: { address: string; port: number },
  done: (result: TunnelResult) => void,
): () => void {
  const socket = net.connect({ host: proxy.host, port: proxy.port, noDelay: true, keepAlive: true });
  let head = Buffer.alloc(0);

  const end = (result: TunnelResult) => {
    socket.removeAllListeners();
    if ('error' in result) socket.on('error', ignore).destroy();
    done(result);
  };
  const fail = (text: string) => end({ error: new EgressProxyError(text) });

  socket.on('connect', () => socket.write(connectRequest(proxy, target)));
  socket.on('error', () => fail('No connection to the egress proxy could be made.'));
  socket.on('end', () => fail('The egress proxy closed the connection.'));
  socket.on('data', (chunk: Buffer) => {
    head = Buffer.concat([head, chunk]);
    const at = head.indexOf('\r\n\r\n');
    if (at === -1) {
      if (head.length > HEAD_BYTES_MAX) fail('The answer of the egress proxy is too long.');
      return;
    }
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(head.subarray(0, 12).toString('latin1'))?.[1];
    if (status === undefined) fail('The answer of the egress proxy is not HTTP.');
    else if (!status.startsWith('2')) fail(`The egress proxy answered ${status}.`);
    // Nobody beyond the tunnel speaks before we do.
    else if (head.length > at + 4) fail('The egress proxy sent more than its answer.');
    else {
      socket.pause();
      end({ socket });
    }
  });
  return () => {
    socket.removeAllListeners();
    socket.on('error', ignore).destroy();
  };
}

function connectRequest(proxy: EgressProxy, { address, port }: { address: string; port: number }): string {
  const authority = `${address.includes(':') ? `[${address}]` : address}:${port}`;
  const authorization = proxy.authorization === undefined ? '' : `Proxy-Authorization: ${proxy.authorization}\r\n`;
  return `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${authorization}\r\n`;
}

/** `user:password`, `:` where there is none, undefined for bytes that are no text. A colon in the user is no user. */
function readCredentials(url: URL): string | undefined {
  try {
    const user = decodeURIComponent(url.username);
    return user.includes(':') ? undefined : `${user}:${decodeURIComponent(url.password)}`;
  } catch {
    return undefined;
  }
}

const HEAD_BYTES_MAX = 16_384;

const ignore = (): void => {};
