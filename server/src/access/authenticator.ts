import { hash, timingSafeEqual } from 'node:crypto';
import type { Database } from '../db/pool.ts';
import { type Actor, type Authenticate, type Caller, CallerRefused } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError, notFound, unauthorized } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import { LoadingCache } from '../kernel/loading-cache.ts';
import type { Logger } from '../kernel/logger.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import type { TenantDirectory, TenantEntry } from '../tenants/directory.ts';
import { DEFAULT_TENANT_SLUG } from '../tenants/types.ts';
import { readKey } from './credentials.ts';
import { createFailedAttempts } from './failed-attempts.ts';
import type { FetchDocument } from './jwt/key-sets.ts';
import { looksLikeToken } from './jwt/read-token.ts';
import { createTokens } from './jwt/tokens.ts';
import { API_KEY_PATTERN } from './key.ts';
import { isApiKeyRole } from './key-roles.ts';
import { createKeyUses, USE_RESOLUTION_MS } from './key-uses.ts';
import type { KnownCredential } from './known-credential.ts';
import { type Asking, refuseOtherScope } from './named-scope.ts';
import { createPortalCallers } from './portal-callers.ts';
import { looksLikePortalToken, type PortalClaims } from './portal-token.ts';
import { createProvenKeys } from './proven-keys.ts';
import { findKeyByHash, type ResolvedKeyRow } from './queries.ts';
import { createRefusedKeys } from './refused-keys.ts';
import { isScope } from './scopes.ts';

/** The environment that an operator's request without `X-Environment` means. */
const DEFAULT_ENVIRONMENT = 'production';

export interface Authenticator {
  /**
   * Finds the caller of a request. An API key, a JWT or a portal token acts in its own tenant and environment: naming
   * another one is a 403. The operator acts for `X-Tenant-Id` (`default`) and `X-Environment` (`production`); unknown
   * ones are a 404.
   *
   * It answers without a promise for a key or a token that is in memory. Measured with 2,000 keys in memory: 1.0 us a
   * request, of which the digest is two thirds; 1.2 us for the operator.
   *
   * What fails is counted by address. From one with too many failures only credentials that are in memory, were found
   * valid before, or are portal tokens that this installation signed are taken; all others are a 429, before anything is looked up or verified
   * (`failed-attempts.ts`).
   */
  authenticate: Authenticate;
  /**
   * The caller, when memory alone says who it is and what it asks is allowed; undefined for all else, which
   * `authenticate` is to judge. Nothing is counted here.
   */
  recognize(headers: Asking['headers']): Caller | undefined;
  /** To be called for notices of `api_keys`, `portal_tokens` and `tenants`. */
  invalidate(tenantId: string): void;
  /** To be called for notices of `jwt_issuers`. */
  invalidateIssuers(): void;
  /** To be called whenever notices may have been missed. */
  invalidateAll(): void;
  /** Writes the last uses that were not yet written. */
  flushLastUsed(): Promise<void>;
  stop(): Promise<void>;
}

export interface AuthenticatorOptions {
  db: Database;
  box: SecretBox;
  clock: Clock;
  logger: Logger;
  tenants: TenantDirectory;
  operatorKey: string;
  /** Fetches the public keys of JWT issuers. */
  fetchDocument: FetchDocument;
  /** API keys kept in memory at most, and as many JWTs (10,000). */
  maxEntries?: number;
  /** Failures a minute from one address (no limit). */
  failuresPerMinute?: number | undefined;
}

export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const { db, box, clock, tenants } = options;
  const operatorDigest = Buffer.from(digestOf(options.operatorKey), 'latin1');
  const keys = new LoadingCache<KnownCredential>(options);
  const tokens = createTokens(options);
  const refused = createRefusedKeys(clock);
  const proven = createProvenKeys();
  /** In a list of their own: they are many and short-lived, and are not to displace keys. */
  const provenTokens = createProvenKeys();
  const attempts = createFailedAttempts(clock, options.failuresPerMinute);
  const uses = createKeyUses(options);
  const portal = createPortalCallers(options);

  function admit(known: KnownCredential, request: Asking): Caller {
    const now = clock.now();
    if (now >= known.expiresAtMs) throw new CallerRefused(known.caller, unauthorized());
    refuseOtherScope(request, known, known.keyId === undefined ? 'token' : 'API key');
    if (known.keyId !== undefined && now - known.lastUsedMs >= USE_RESOLUTION_MS) {
      known.lastUsedMs = now;
      uses.add({ tenantId: known.caller.tenantId, id: known.keyId, usedAt: new Date(now) });
    }
    return known.caller;
  }

  async function lookUp(key: string, digest: string, request: Asking): Promise<Caller> {
    const known = await keys.load(digest, async () => {
      const row = await findKeyByHash(db, box.hashKey(key));
      return row && knownKey(row);
    });
    if (known === undefined) {
      proven.delete(digest);
      refused.add(digest);
      throw unauthorized();
    }
    proven.add(digest);
    return admit(known, request);
  }

  function asOperator(request: Asking): Caller | Promise<Caller> {
    const environment = request.headers['x-environment'] ?? DEFAULT_ENVIRONMENT;
    const tenant = tenants.find(String(request.headers['x-tenant-id'] ?? DEFAULT_TENANT_SLUG));
    return tenant instanceof Promise
      ? tenant.then((found) => operatorCaller(found, String(environment)))
      : operatorCaller(tenant, String(environment));
  }

  /** Undefined: it is not in memory. */
  function fromMemory(digest: string, request: Asking): Caller | Promise<Caller> | undefined {
    const known = keys.cached(digest);
    if (known !== undefined) return admit(known, request);
    if (timingSafeEqual(Buffer.from(digest, 'latin1'), operatorDigest)) return asOperator(request);
    const token = tokens.cached(digest);
    return token && admit(token, request);
  }

  async function verify(token: string, digest: string, request: Asking): Promise<Caller> {
    const known = await tokens.verify(token, digest);
    if (known === undefined) {
      provenTokens.delete(digest);
      throw unauthorized();
    }
    provenTokens.add(digest);
    return admit(known, request);
  }

  /** What is looked up for a portal token are its tenant and revocations, which all of its kind share. */
  function admitPortalToken(claims: PortalClaims, digest: string, request: Asking): Caller | Promise<Caller> {
    const failed = (error: unknown): never => {
      if (isUnauthorized(error)) refused.add(digest);
      throw error;
    };
    try {
      const caller = portal.admit(claims, request);
      return caller instanceof Promise ? caller.catch(failed) : caller;
    } catch (error) {
      return failed(error);
    }
  }

  function find(request: Asking, address: string): Caller | Promise<Caller> {
    let key: string;
    try {
      key = readKey(request.headers);
    } catch (error) {
      attempts.refuse(address);
      throw error;
    }
    const digest = digestOf(key);
    const remembered = fromMemory(digest, request);
    if (remembered !== undefined) return remembered;
    if (proven.has(digest)) return lookUp(key, digest, request);
    const isProvenToken = provenTokens.has(digest);
    // That we signed it costs less to see than the refusal of its address.
    const claims = looksLikePortalToken(key) ? portal.read(key) : undefined;
    if (!isProvenToken && claims === undefined) attempts.refuse(address);
    if (refused.has(digest)) throw unauthorized();
    if (claims !== undefined) return admitPortalToken(claims, digest, request);
    if (isProvenToken) return verify(key, digest, request);
    if (looksLikeToken(key)) return attempts.lookingUp(address, () => verify(key, digest, request));
    if (!API_KEY_PATTERN.test(key)) throw unauthorized();
    return attempts.lookingUp(address, () => lookUp(key, digest, request));
  }

  return {
    authenticate(request) {
      const failed = (error: unknown): never => {
        if (isUnauthorized(error)) attempts.add(request.ip);
        throw error;
      };
      try {
        const caller = find(request, request.ip);
        return caller instanceof Promise ? caller.catch(failed) : caller;
      } catch (error) {
        return failed(error);
      }
    },
    recognize(headers) {
      try {
        const caller = fromMemory(digestOf(readKey(headers)), { headers });
        if (caller === undefined) return undefined;
        if (caller instanceof Promise) return notYet(caller);
        // Whether it is suspended is judged next.
        const tenant = tenants.get(caller.tenantId);
        return tenant instanceof Promise ? notYet(tenant) : caller;
      } catch {
        return undefined;
      }
    },
    invalidate(tenantId) {
      keys.invalidate((known) => known.caller.tenantId === tenantId);
      tokens.invalidate(tenantId);
      portal.invalidate(tenantId);
    },
    invalidateIssuers: () => tokens.invalidateAll(),
    invalidateAll() {
      keys.invalidateAll();
      tokens.invalidateAll();
      portal.invalidateAll();
    },
    flushLastUsed: uses.flush,
    stop: uses.stop,
  };
}

/** What is being looked up; its failure is for whoever waits for it. */
function notYet(lookup: Promise<unknown>): undefined {
  lookup.catch(() => {});
}

function isUnauthorized(error: unknown): boolean {
  return error instanceof AppError && error.status === 401;
}

function knownKey(row: ResolvedKeyRow): KnownCredential {
  if (!isApiKeyRole(row.role)) throw new Error('An API key has a role that this version does not know.');
  return {
    keyId: row.id,
    caller: Object.freeze({
      actor: { kind: 'api_key', id: formatId('apiKey', row.id) } as const,
      tenantId: row.tenant_id,
      environmentId: row.environment_id,
      environmentName: row.environment,
      role: row.role,
      // One that this version does not know permits nothing.
      scopes: row.scopes?.filter(isScope),
      ...(row.requests_per_second !== null && { requestsPerSecond: row.requests_per_second }),
    }),
    tenantSlug: row.slug,
    tenantTypeId: formatId('tenant', row.tenant_id),
    environmentName: row.environment,
    expiresAtMs: Math.min(endOf(row.expires_at), endOf(row.secret_expires_at)),
    lastUsedMs: row.last_used_at?.getTime() ?? Number.NEGATIVE_INFINITY,
  };
}

function endOf(time: Date | null): number {
  return time?.getTime() ?? Number.POSITIVE_INFINITY;
}

const OPERATOR: Actor = { kind: 'operator', id: 'operator' };

function operatorCaller(tenant: TenantEntry | undefined, environmentName: string): Caller {
  if (tenant === undefined) throw notFound('tenant');
  const environment = tenant.environments.get(environmentName);
  if (environment === undefined) throw notFound('environment');
  return { actor: OPERATOR, tenantId: tenant.id, environmentId: environment.id, environmentName, role: 'operator' };
}

/** By which keys are found in memory, so that memory holds no key. SHA-256 as 32 characters, a byte each. */
function digestOf(key: string): string {
  return hash('sha256', key, 'latin1');
}
