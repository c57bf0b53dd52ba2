import { API_KEY_ROLES, type ApiKeyRole } from '../key-roles.ts';
import type { JwtIssuer } from './issuer.ts';

/** Who a token says it speaks for. */
export interface ClaimedIdentity {
  subject: string;
  /** Id or slug; undefined when the token names none. */
  tenant: string | undefined;
  environment: string;
  role: ApiKeyRole;
}

/**
 * Reads the identity by the issuer's claim names. Undefined when `sub` is missing, a claim is no text, or the role is
 * none that the issuer may give: a claim that is there and means nothing is never replaced by a default.
 */
export function claimedIdentity(
  claims: Readonly<Record<string, unknown>>,
  issuer: Pick<JwtIssuer, 'claims' | 'roles' | 'defaultRole' | 'defaultEnvironment'>,
): ClaimedIdentity | undefined {
  const subject = claims.sub;
  const tenant = claimAt(claims, issuer.claims.tenant);
  const environment = claimAt(claims, issuer.claims.environment) ?? issuer.defaultEnvironment;
  const role = roleOf(claimAt(claims, issuer.claims.role), issuer);
  if (typeof subject !== 'string' || !SUBJECT.test(subject)) return undefined;
  if (tenant !== undefined && typeof tenant !== 'string') return undefined;
  if (typeof environment !== 'string' || role === null) return undefined;
  return { subject, tenant, environment, role };
}

/** RFC 7519 says nothing of its length; OpenID Connect allows 255 ASCII characters. It is shown and logged. */
const SUBJECT = /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]{1,255}$/u;

/** Of several roles the most powerful one that has a meaning; null: none has. */
function roleOf(claim: unknown, issuer: Pick<JwtIssuer, 'roles' | 'defaultRole'>): ApiKeyRole | null {
  if (claim === undefined) return issuer.defaultRole;
  const given = (Array.isArray(claim) ? claim : [claim]).map((name) => issuer.roles.get(name));
  return API_KEY_ROLES.find((role) => given.includes(role)) ?? null;
}

function claimAt(claims: Readonly<Record<string, unknown>>, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name] ?? undefined;
  let value: unknown = claims;
  for (const step of name.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string, unknown>)[step];
  }
  return value ?? undefined;
}
