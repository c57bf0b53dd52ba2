import { JWKS_ALGORITHMS, type JwtIssuer, SECRET_ALGORITHMS } from './issuer.ts';
import type { UnverifiedToken } from './read-token.ts';

/** `reason` is for the log; a caller is told nothing but that the token is not valid. */
export type TokenVerdict = { ok: true; expiresAtMs: number } | { ok: false; reason: string };

/**
 * Judges by what a token says of itself whether an issuer's keys are worth asking: a signature is checked only when
 * everything else is right. RFC 7519, section 4.1; times may be off by the issuer's clock skew.
 */
export function judgeToken(token: UnverifiedToken, issuer: JwtIssuer, nowMs: number): TokenVerdict {
  const { iss, aud, exp, nbf, iat } = token.claims;
  const algorithms: readonly string[] = issuer.keys.kind === 'secret' ? SECRET_ALGORITHMS : JWKS_ALGORITHMS;
  if (!algorithms.includes(token.algorithm)) return refuse('algorithm');
  if (iss !== issuer.issuer) return refuse('issuer');
  if (aud !== issuer.audience && !(Array.isArray(aud) && aud.includes(issuer.audience))) return refuse('audience');
  if (!isTime(exp)) return refuse('no expiry');
  const expiresAtMs = exp * 1000 + issuer.clockSkewMs;
  if (nowMs >= expiresAtMs) return refuse('expired');
  for (const start of [nbf, iat]) {
    if (start === undefined) continue;
    if (!isTime(start)) return refuse('a time that is none');
    if (start * 1000 > nowMs + issuer.clockSkewMs) return refuse('not yet valid');
  }
  const issuedAtMs = isTime(iat) ? iat * 1000 : nowMs;
  if (exp * 1000 - issuedAtMs > issuer.lifetimeMsMax + (isTime(iat) ? 0 : issuer.clockSkewMs)) {
    return refuse('lives too long');
  }
  return { ok: true, expiresAtMs };
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function refuse(reason: string): TokenVerdict {
  return { ok: false, reason };
}
