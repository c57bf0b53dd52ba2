import type { Database } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import { LoadingCache } from '../kernel/loading-cache.ts';
import { limitsInForce, readLimits } from './limits.ts';
import { findTenant, readTenantRef, type TenantRef } from './queries.ts';
import { readSettings } from './settings.ts';
import { DEFAULT_SETTINGS, NO_LIMITS, type TenantLimits, type TenantSettings } from './types.ts';

export interface EnvironmentEntry {
  id: string;
  name: string;
  preset: string;
}

/** A tenant as every request needs it. */
export interface TenantEntry {
  id: string;
  slug: string;
  name: string;
  settings: TenantSettings;
  /** Those in force, defaults included; undefined: it has none. */
  limits: TenantLimits | undefined;
  /** Its traffic stands still. */
  suspended: boolean;
  environments: ReadonlyMap<string, EnvironmentEntry>;
}

type Now<Value> = Value | Promise<Value>;

/**
 * The tenants in memory, up to 10,000 of them. It answers at once what it knows and reads the rest from the database.
 * Whoever is told of a change (`tenants` notices) calls `invalidate`; a change may be missed for a minute at most.
 */
export interface TenantDirectory {
  /** `idOrSlug` as a client writes it: `tnt_…` or a slug. Undefined for anything that names no tenant. */
  find(idOrSlug: string): Now<TenantEntry | undefined>;
  /** By the id in the database. */
  get(tenantId: string): Now<TenantEntry | undefined>;
  /** A tenant that is gone has the default settings. */
  settings(tenantId: string): Now<TenantSettings>;
  invalidate(tenantId: string): void;
  invalidateAll(): void;
}

export function createTenantDirectory(options: {
  db: Database;
  clock: Clock;
  /** Names kept at most (10,000): a tenant asked for by id and by slug counts twice. */
  maxEntries?: number;
  /** Of tenants that have none of their own (none). */
  defaultLimits?: TenantLimits;
}): TenantDirectory {
  const { db, defaultLimits = NO_LIMITS, ...cacheOptions } = options;
  const cache = new LoadingCache<TenantEntry>(cacheOptions);

  const get = (tenantId: string) =>
    cache.cached(tenantId) ?? cache.load(tenantId, () => read(db, { id: tenantId }, defaultLimits));
  return {
    find(idOrSlug) {
      const ref = readTenantRef(idOrSlug);
      if (ref === undefined) return undefined;
      if ('id' in ref) return get(ref.id);
      return cache.cached(ref.slug) ?? cache.load(ref.slug, () => read(db, ref, defaultLimits));
    },
    get,
    settings(tenantId) {
      const tenant = get(tenantId);
      if (tenant instanceof Promise) return tenant.then((found) => found?.settings ?? DEFAULT_SETTINGS);
      return tenant.settings;
    },
    invalidate: (tenantId) => cache.invalidate((tenant) => tenant.id === tenantId),
    invalidateAll: () => cache.invalidateAll(),
  };
}

async function read(db: Database, ref: TenantRef, defaultLimits: TenantLimits): Promise<TenantEntry | undefined> {
  const tenant = await findTenant(db, ref);
  if (tenant === undefined) return undefined;
  const environments = await db
    .selectFrom('environments')
    .select(['id', 'name', 'preset'])
    .where('tenant_id', '=', tenant.id)
    .execute();
  return {
    id: tenant.id,
    slug: tenant.slug,
    name: tenant.name,
    settings: readSettings(tenant.settings),
    limits: limitsInForce(readLimits(tenant.limits), defaultLimits),
    suspended: tenant.suspended_at !== null,
    environments: new Map(environments.map((environment) => [environment.name, environment])),
  };
}
