import { createSecretKey, type KeyObject } from 'node:crypto';
import { SEALED_COLUMNS, sealedPlace } from '../../encryption/sealed-columns.ts';
import type { SecretBox } from '../../kernel/secret-box.ts';
import { API_KEY_ROLES, type ApiKeyRole, isApiKeyRole } from '../key-roles.ts';
import type { JwtIssuerRow } from './queries.ts';

/** Whose tokens are taken, and what they mean here. */
export interface JwtIssuer {
  /** UUID. */
  id: string;
  /** The `iss` of its tokens. Several may have the same one. */
  issuer: string;
  /** What `aud` of its tokens has to name. */
  audience: string;
  /** The only tenant that it speaks for; null: the one that the token names. */
  tenantId: string | null;
  keys: JwtKeys;
  clockSkewMs: number;
  /** From `iat`, or else from now, to `exp`. */
  lifetimeMsMax: number;
  claims: ClaimNames;
  /** What a token calls a role, and what that is here. */
  roles: ReadonlyMap<string, ApiKeyRole>;
  /** For a token without the claim; null: such a token is refused. */
  defaultRole: ApiKeyRole | null;
  /** The same for the environment. */
  defaultEnvironment: string;
}

/** A shared secret signs with HS256 only, and keys from a URL never do: a public key cannot pass for a secret. */
export type JwtKeys = { kind: 'secret'; secret: KeyObject } | { kind: 'jwks'; url: URL };

export const SECRET_ALGORITHMS = ['HS256'] as const;
export const JWKS_ALGORITHMS = ['RS256', 'ES256', 'EdDSA'] as const;

/** Which claims say for whom a token speaks. A dot leads into an object, unless a claim has the whole name. */
export interface ClaimNames {
  tenant: string;
  environment: string;
  role: string;
}

export const DEFAULT_CLAIMS: ClaimNames = { tenant: 'tenant', environment: 'environment', role: 'role' };

/** @throws Error when its secret cannot be opened. */
export function readIssuer(row: JwtIssuerRow, box: SecretBox): JwtIssuer {
  return {
    id: row.id,
    issuer: row.issuer,
    audience: row.audience,
    tenantId: row.tenant_id,
    keys: readKeys(row, box),
    clockSkewMs: row.clock_skew_seconds * 1000,
    lifetimeMsMax: row.max_lifetime_seconds * 1000,
    claims: readClaimNames(row.claims),
    roles: new Map(Object.entries(readRoles(row.roles) ?? OWN_NAMES)),
    defaultRole: row.default_role !== null && isApiKeyRole(row.default_role) ? row.default_role : null,
    defaultEnvironment: row.default_environment,
  };
}

function readKeys(row: JwtIssuerRow, box: SecretBox): JwtKeys {
  if (row.secret_box === null) return { kind: 'jwks', url: new URL(row.jwks_url ?? '') };
  const secret = box.open(row.secret_box, sealedPlace(SEALED_COLUMNS.jwtIssuerSecret, row.id));
  return { kind: 'secret', secret: createSecretKey(Buffer.from(secret)) };
}

export function readClaimNames(stored: unknown): ClaimNames {
  return { ...DEFAULT_CLAIMS, ...(stored as Partial<ClaimNames>) };
}

/** The stored map without what is no role of this version; null: tokens use our names. */
export function readRoles(stored: unknown): Record<string, ApiKeyRole> | null {
  if (stored === null) return null;
  const entries = Object.entries(stored as Record<string, string>);
  return Object.fromEntries(entries.filter((entry): entry is [string, ApiKeyRole] => isApiKeyRole(entry[1])));
}

const OWN_NAMES = Object.fromEntries(API_KEY_ROLES.map((role) => [role, role]));
