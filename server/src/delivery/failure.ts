import { errorCode } from '../db/pool.ts';
import { EgressBlockedError } from '../webhooks/egress/guard.ts';
import { EgressProxyError } from '../webhooks/egress/proxy.ts';
import { NameLookupError } from '../webhooks/egress/resolver.ts';
import type { ErrorClass, Failure } from './outcome.ts';

type FailureClass = Exclude<ErrorClass, 'response' | 'dns' | 'blocked' | 'template'>;

/**
 * Gives what a socket or the egress guard failed with its class and a text of our own. The error's own text is
 * not passed on unless it is ours: it may hold whatever the receiver sent.
 */
export function failureOf(error: unknown): Failure {
  for (const [own, errorClass] of OWN_ERRORS) {
    if (error instanceof own) return { kind: 'failed', errorClass, message: error.message };
  }
  const code = codeOf(error);
  const errorClass = classOf(code);
  return { kind: 'failed', errorClass, message: `${TEXTS[errorClass]} (${code})` };
}

const OWN_ERRORS = [
  [EgressBlockedError, 'blocked'],
  [NameLookupError, 'dns'],
  [EgressProxyError, 'connect'],
] as const;

const TEXTS: Record<FailureClass, string> = {
  connect: 'No connection could be made.',
  tls: 'The TLS handshake or the certificate was refused.',
  timeout: 'The receiver took too long.',
  reset: 'The receiver closed the connection before its answer was complete.',
  internal: 'The request could not be sent.',
};

const CLASSES: Record<string, FailureClass> = {
  ECONNREFUSED: 'connect',
  EHOSTUNREACH: 'connect',
  EHOSTDOWN: 'connect',
  ENETUNREACH: 'connect',
  ENETDOWN: 'connect',
  EADDRNOTAVAIL: 'connect',
  // A packet filter of this machine.
  EACCES: 'connect',
  EPERM: 'connect',
  ETIMEDOUT: 'timeout',
  ECONNRESET: 'reset',
  ECONNABORTED: 'reset',
  EPIPE: 'reset',
  EPROTO: 'tls',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'tls',
  SELF_SIGNED_CERT_IN_CHAIN: 'tls',
  HOSTNAME_MISMATCH: 'tls',
  PATH_LENGTH_EXCEEDED: 'tls',
};

/** Codes of Node's TLS and of OpenSSL's certificate checks (X509_V_ERR_…): https://nodejs.org/api/tls.html */
const TLS_CODES = /^(?:ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|CRL_|UNABLE_TO_|ERROR_IN_C|INVALID_(?:CA|PURPOSE))/;

function classOf(code: string): FailureClass {
  return CLASSES[code] ?? (TLS_CODES.test(code) ? 'tls' : 'internal');
}

/** The most telling code: several addresses tried give an AggregateError, wrappers keep the reason in `cause`. */
function codeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  if (error instanceof Error && error.cause instanceof Error && CLASSES[errorCode(error)] === undefined) {
    return codeOf(error.cause);
  }
  return errorCode(error);
}
