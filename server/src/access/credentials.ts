import type { IncomingHttpHeaders } from 'node:http';
import { AppError, unauthorized } from '../kernel/errors.ts';
import { hintOf } from './key.ts';

/**
 * Longer ones are refused before anything is computed from them. A JWT with many claims has some kilobytes; all headers
 * together may have 16.
 */
const KEY_LENGTH_MAX = 8_192;

/** RFC 6750, section 2.1; the scheme's case does not matter (RFC 9110, section 11.1). */
const BEARER = /^bearer +(?=\S)/i;

/** What may be shown of the key in a request that was refused; undefined: nothing. */
export function hintOfRefused(headers: IncomingHttpHeaders): string | undefined {
  try {
    return hintOf(readKey(headers));
  } catch {
    // It carries no key.
    return undefined;
  }
}

/**
 * The key or token that a request carries, in `Authorization: Bearer` or `X-API-Key`. Credentials of another scheme, as a proxy
 * may add them, are none of ours.
 *
 * @throws AppError 401 for none, for one that is too long, and for two that differ: which of them counts would be a
 * guess.
 */
export function readKey(headers: IncomingHttpHeaders): string {
  const { authorization } = headers;
  const apiKey = headers['x-api-key'];
  const bearer =
    authorization !== undefined && BEARER.test(authorization) ? authorization.replace(BEARER, '') : undefined;
  if (bearer !== undefined && apiKey !== undefined && bearer !== apiKey) {
    throw new AppError({
      code: 'unauthorized',
      message: '"Authorization" and "X-API-Key" carry different keys; send one of them.',
    });
  }
  const key = bearer ?? apiKey;
  if (typeof key !== 'string' || key === '' || key.length > KEY_LENGTH_MAX) throw unauthorized();
  return key;
}
