import net from 'node:net';
import tls from 'node:tls';
import type { ClientCertificate } from '../../webhooks/auth/credentials.ts';

export interface TlsOptions {
  /** The name that the certificate must hold, or an IP literal without brackets. */
  host: string;
  verifyTls: boolean;
  /** With which this end proves who it is, when it is asked. */
  clientCertificate: ClientCertificate | null;
}

type TlsResult = { socket: tls.TLSSocket } | { error: Error };

/**
 * TLS over a connected socket. No session is resumed: each connection looks at the receiver's certificate as it is now.
 * Returns what stops it; `done` is not called after that.
 */
export function startTls(raw: net.Socket, options: TlsOptions, done: (result: TlsResult) => void): () => void {
  const { host, verifyTls, clientCertificate } = options;
  const socket = tls.connect({
    socket: raw,
    secureContext: contextOf(clientCertificate),
    // The certificate is compared with `host`. An address is never sent as server name (RFC 6066, section 3).
    host,
    servername: net.isIP(host) === 0 ? host.replace(/\.$/, '') : '',
    ALPNProtocols: ['http/1.1'],
    rejectUnauthorized: verifyTls,
  });
  const fail = (error: Error) => {
    socket.removeAllListeners();
    socket.on('error', ignore).destroy();
    done({ error });
  };
  const closed = () => fail(Object.assign(new Error('The connection was closed.'), { code: 'ECONNRESET' }));
  socket.once('error', fail);
  socket.once('close', closed);
  socket.once('secureConnect', () => {
    socket.off('error', fail);
    socket.off('close', closed);
    done({ socket });
  });
  return () => {
    socket.removeAllListeners();
    socket.on('error', ignore).destroy();
  };
}

/** One for all connections, and one for each client certificate: each of its own would read the authorities anew. */
function contextOf(clientCertificate: ClientCertificate | null): tls.SecureContext {
  if (clientCertificate === null) {
    context ??= tls.createSecureContext();
    return context;
  }
  let own = contexts.get(clientCertificate);
  if (own === undefined) {
    own = tls.createSecureContext({ cert: clientCertificate.certificate, key: clientCertificate.privateKey });
    contexts.set(clientCertificate, own);
  }
  return own;
}

let context: tls.SecureContext | undefined;
const contexts = new WeakMap<ClientCertificate, tls.SecureContext>();

const ignore = (): void => {};
