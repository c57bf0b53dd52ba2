import type { KeyObject } from 'node:crypto';
import { type CryptoKey, jwtVerify } from 'jose';
import { type Database, errorCode } from '../../db/pool.ts';
import type { Clock } from '../../kernel/clock.ts';
import { AppError } from '../../kernel/errors.ts';
import { formatId } from '../../kernel/ids.ts';
import { LoadingCache } from '../../kernel/loading-cache.ts';
import type { Logger } from '../../kernel/logger.ts';
import type { SecretBox } from '../../kernel/secret-box.ts';
import type { TenantDirectory, TenantEntry } from '../../tenants/directory.ts';
import type { KnownCredential } from '../known-credential.ts';
import { type ClaimedIdentity, claimedIdentity } from './claimed-identity.ts';
import { JWKS_ALGORITHMS, type JwtIssuer, readIssuer, SECRET_ALGORITHMS } from './issuer.ts';
import { judgeToken } from './judge-token.ts';
import { createKeySets, type FetchDocument } from './key-sets.ts';
import { allIssuers } from './queries.ts';
import { readToken, type UnverifiedToken } from './read-token.ts';

/** JWTs and the issuers whose tokens are taken. */
export interface Tokens {
  /** A token that was verified before and is still in memory. */
  cached(digest: string): KnownCredential | undefined;
  /**
   * Verifies a token. Undefined for one that is not valid, whatever the reason: that is for the log at level `debug`.
   * What is verified is remembered, for a minute at most or until something changes that it depends on.
   *
   * A token costs no query as long as the issuers are in memory, and no signature check when something else is wrong
   * with it. Measured: 0.1 to 0.2 ms with a signature check, 20 us for one with a wrong audience, and 1.5 us in
   * `authenticate` for one that is in memory.
   *
   * @throws AppError 503 when its issuer's keys cannot be fetched.
   */
  verify(text: string, digest: string): Promise<KnownCredential | undefined>;
  /** To be called for notices of `tenants`. */
  invalidate(tenantId: string): void;
  /** To be called for notices of `jwt_issuers`, and whenever notices may have been missed. */
  invalidateAll(): void;
}

export interface TokensOptions {
  db: Database;
  box: SecretBox;
  clock: Clock;
  logger: Logger;
  tenants: TenantDirectory;
  fetchDocument: FetchDocument;
  /** Tokens kept in memory at most (10,000). */
  maxEntries?: number;
}

export function createTokens(options: TokensOptions): Tokens {
  const { db, box, clock, logger, tenants } = options;
  const known = new LoadingCache<KnownCredential>(options);
  /** All of them under one name: a stranger's `iss` costs no query. */
  const issuers = new LoadingCache<readonly JwtIssuer[]>({ clock });
  const keySets = createKeySets(options);

  async function loadIssuers(): Promise<readonly JwtIssuer[]> {
    const read: JwtIssuer[] = [];
    const rows = await allIssuers(db);
    await box.learn(rows.map((row) => row.secret_box));
    for (const row of rows) {
      try {
        read.push(readIssuer(row, box));
      } catch (error) {
        // One unreadable issuer must not keep the tokens of the others out.
        logger.error({ issuer_id: row.id, code: errorCode(error) }, 'a JWT issuer cannot be read');
      }
    }
    keySets.keepOnly(new Set(read.map((issuer) => issuer.id)));
    return read;
  }

  async function verify(text: string): Promise<KnownCredential | undefined> {
    const token = readToken(text);
    if (token === undefined) return undefined;
    const all = issuers.cached(ALL) ?? (await issuers.load(ALL, loadIssuers)) ?? [];
    let unavailable: AppError | undefined;
    for (const issuer of all) {
      if (issuer.issuer !== token.claims.iss) continue;
      try {
        const found = await verifyBy(issuer, token);
        if (found !== undefined) return found;
      } catch (error) {
        // Another one with the same name may still know the token.
        if (!(error instanceof AppError)) throw error;
        unavailable = error;
      }
    }
    if (unavailable !== undefined) throw unavailable;
    return undefined;
  }

  async function verifyBy(issuer: JwtIssuer, token: UnverifiedToken): Promise<KnownCredential | undefined> {
    const refuse = (reason: string) => {
      logger.debug({ issuer_id: formatId('jwtIssuer', issuer.id), reason }, 'a JWT was refused');
      return undefined;
    };
    const verdict = judgeToken(token, issuer, clock.now());
    if (!verdict.ok) return refuse(verdict.reason);
    const identity = claimedIdentity(token.claims, issuer);
    if (identity === undefined) return refuse('no subject, role or environment');
    const { keys } = issuer;
    const key = keys.kind === 'secret' ? keys.secret : await keySets.find({ id: issuer.id, url: keys.url }, token);
    if (key === undefined) return refuse('unknown key');
    if (!(await isSigned(token, issuer, key, clock.now()))) return refuse('signature');
    const tenant = await tenantOf(issuer, identity);
    const environment = tenant?.environments.get(identity.environment);
    if (tenant === undefined || environment === undefined) return refuse('tenant or environment');
    return {
      keyId: undefined,
      caller: Object.freeze({
        actor: { kind: 'jwt', id: identity.subject } as const,
        tenantId: tenant.id,
        environmentId: environment.id,
        environmentName: environment.name,
        role: identity.role,
      }),
      tenantSlug: tenant.slug,
      tenantTypeId: formatId('tenant', tenant.id),
      environmentName: environment.name,
      expiresAtMs: verdict.expiresAtMs,
      lastUsedMs: Number.POSITIVE_INFINITY,
    };
  }

  /** The one that the token names; of an issuer with a tenant of its own that one, and no other may be named. */
  async function tenantOf(issuer: JwtIssuer, { tenant: name }: ClaimedIdentity): Promise<TenantEntry | undefined> {
    const named = name === undefined ? undefined : await tenants.find(name);
    if (issuer.tenantId === null) return named;
    if (name !== undefined && named?.id !== issuer.tenantId) return undefined;
    return tenants.get(issuer.tenantId);
  }

  return {
    cached: (digest) => known.cached(digest),
    verify: (text, digest) => known.load(digest, () => verify(text)),
    invalidate: (tenantId) => known.invalidate((token) => token.caller.tenantId === tenantId),
    invalidateAll() {
      issuers.invalidateAll();
      known.invalidateAll();
    },
  };
}

const ALL = 'all';

/** The claims were judged before; here they are judged again with the signature, by the library. */
async function isSigned(
  token: UnverifiedToken,
  issuer: JwtIssuer,
  key: CryptoKey | KeyObject,
  nowMs: number,
): Promise<boolean> {
  try {
    await jwtVerify(token.text, key, {
      algorithms: [...(issuer.keys.kind === 'secret' ? SECRET_ALGORITHMS : JWKS_ALGORITHMS)],
      issuer: issuer.issuer,
      audience: issuer.audience,
      requiredClaims: ['exp'],
      clockTolerance: issuer.clockSkewMs / 1000,
      currentDate: new Date(nowMs),
    });
    return true;
  } catch {
    // A signature that is wrong, and a key that cannot check it, such as an RSA key that is too short.
    return false;
  }
}
