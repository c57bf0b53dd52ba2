import { type Selectable, sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { PageRequest } from '../http/pagination.ts';
import type { ApiKeyRole } from './key-roles.ts';

/** A key's row with its environment's name, without its hash. */
export type ApiKeyRow = Omit<Selectable<Tables['api_keys']>, 'key_hash'> & {
  environment: string;
  /** When the last of its old secrets ends or ended; null: there are none. */
  old_secrets_end_at: Date | null;
};

/** What an unknown key is looked up for. */
export interface ResolvedKeyRow {
  tenant_id: string;
  id: string;
  environment_id: string;
  role: string;
  scopes: string[] | null;
  expires_at: Date | null;
  /** When the secret ends that was asked with; null: with the key. */
  secret_expires_at: Date | null;
  last_used_at: Date | null;
  requests_per_second: number | null;
  environment: string;
  slug: string;
}

/**
 * The one query that names no tenant: the key is what says which tenant it is. Revoked keys are not found; those that
 * have been rotated are, also by a secret whose grace is over.
 */
export async function findKeyByHash(db: Database, keyHash: Buffer): Promise<ResolvedKeyRow | undefined> {
  const secret = db
    .selectFrom('api_keys')
    .select(['tenant_id', 'id as key_id', sql<Date | null>`NULL::timestamptz`.as('expires_at')])
    .where('key_hash', '=', keyHash)
    .unionAll(
      db
        .selectFrom('api_key_old_secrets')
        .select(['tenant_id', 'key_id', sql<Date | null>`expires_at`.as('expires_at')])
        .where('key_hash', '=', keyHash),
    );
  return db
    .selectFrom(secret.as('secret'))
    .innerJoin('api_keys', (join) =>
      join.onRef('api_keys.tenant_id', '=', 'secret.tenant_id').onRef('api_keys.id', '=', 'secret.key_id'),
    )
    .innerJoin('environments', (join) =>
      join
        .onRef('environments.tenant_id', '=', 'api_keys.tenant_id')
        .onRef('environments.id', '=', 'api_keys.environment_id'),
    )
    .innerJoin('tenants', 'tenants.id', 'api_keys.tenant_id')
    .select([
      'api_keys.tenant_id',
      'api_keys.id',
      'api_keys.environment_id',
      'api_keys.role',
      'api_keys.scopes',
      'api_keys.expires_at',
      'secret.expires_at as secret_expires_at',
      'api_keys.last_used_at',
      'api_keys.requests_per_second',
      'environments.name as environment',
      'tenants.slug',
    ])
    .where('api_keys.revoked_at', 'is', null)
    .executeTakeFirst();
}

/** The keys that a caller may see: a tenant's, or those of one of its environments. */
export interface KeyReach {
  tenantId: string;
  /** undefined: all of the tenant's. */
  environmentId: string | undefined;
}

function keys(db: Database, reach: KeyReach) {
  return db
    .selectFrom('api_keys')
    .innerJoin('environments', (join) =>
      join
        .onRef('environments.tenant_id', '=', 'api_keys.tenant_id')
        .onRef('environments.id', '=', 'api_keys.environment_id'),
    )
    .where('api_keys.tenant_id', '=', reach.tenantId)
    .$if(reach.environmentId !== undefined, (query) =>
      query.where('api_keys.environment_id', '=', reach.environmentId as string),
    )
    .select((columns) => [
      'api_keys.tenant_id',
      'api_keys.id',
      'api_keys.environment_id',
      'api_keys.name',
      'api_keys.role',
      'api_keys.scopes',
      'api_keys.rotated_at',
      columns
        .selectFrom('api_key_old_secrets as old')
        .select((old) => old.fn.max('old.expires_at').as('end'))
        .whereRef('old.tenant_id', '=', 'api_keys.tenant_id')
        .whereRef('old.key_id', '=', 'api_keys.id')
        .as('old_secrets_end_at'),
      'api_keys.key_hint',
      'api_keys.expires_at',
      'api_keys.last_used_at',
      'api_keys.revoked_at',
      'api_keys.requests_per_second',
      'api_keys.created_at',
      'environments.name as environment',
    ]);
}

/** One row more than the page's limit, newest first. */
export async function listKeys(
  db: Database,
  reach: KeyReach,
  page: PageRequest,
  filter: { unrevokedOnly: boolean },
): Promise<ApiKeyRow[]> {
  return keys(db, reach)
    .$if(filter.unrevokedOnly, (query) => query.where('api_keys.revoked_at', 'is', null))
    .$if(page.beforeId !== undefined, (query) => query.where('api_keys.id', '<', page.beforeId as string))
    .orderBy('api_keys.id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

export async function findKey(db: Database, reach: KeyReach, id: string): Promise<ApiKeyRow | undefined> {
  return keys(db, reach).where('api_keys.id', '=', id).executeTakeFirst();
}

export interface NewKeyRow {
  tenantId: string;
  id: string;
  environment: { id: string; name: string };
  name: string;
  role: ApiKeyRole;
  /** Null or absent: all that the role may. */
  scopes?: readonly string[] | null;
  keyHash: Buffer;
  keyHint: string;
  expiresAt: Date | null;
  /** null, undefined: no limit of its own. */
  requestsPerSecond?: number | null;
  now: Date;
}

export async function insertKey(trx: Transaction<Tables>, key: NewKeyRow): Promise<ApiKeyRow> {
  const row = {
    tenant_id: key.tenantId,
    id: key.id,
    environment_id: key.environment.id,
    name: key.name,
    role: key.role,
    scopes: key.scopes === undefined || key.scopes === null ? null : [...key.scopes],
    key_hint: key.keyHint,
    expires_at: key.expiresAt,
    last_used_at: null,
    revoked_at: null,
    rotated_at: null,
    requests_per_second: key.requestsPerSecond ?? null,
    created_at: key.now,
  };
  await trx
    .insertInto('api_keys')
    .values({ ...row, key_hash: key.keyHash })
    .execute();
  return { ...row, environment: key.environment.name, old_secrets_end_at: null };
}

/** The environment's id; it cannot be deleted until the transaction ends. */
export async function lockEnvironmentByName(
  trx: Transaction<Tables>,
  tenantId: string,
  name: string,
): Promise<string | undefined> {
  const row = await trx
    .selectFrom('environments')
    .select('id')
    .where('tenant_id', '=', tenantId)
    .where('name', '=', name)
    .forKeyShare()
    .executeTakeFirst();
  return row?.id;
}

/** The key's row, which no one else changes until the transaction ends. */
export async function lockKey(trx: Transaction<Tables>, reach: KeyReach, id: string): Promise<ApiKeyRow | undefined> {
  return keys(trx, reach).where('api_keys.id', '=', id).forUpdate('api_keys').executeTakeFirst();
}

export async function updateKey(
  trx: Transaction<Tables>,
  key: Pick<ApiKeyRow, 'tenant_id' | 'id' | 'name' | 'scopes' | 'expires_at' | 'requests_per_second'>,
): Promise<void> {
  await trx
    .updateTable('api_keys')
    .set({
      name: key.name,
      scopes: key.scopes,
      expires_at: key.expires_at,
      requests_per_second: key.requests_per_second,
    })
    .where('tenant_id', '=', key.tenant_id)
    .where('id', '=', key.id)
    .execute();
}

/** How many old secrets of a key work beyond now. */
export async function countOldSecrets(trx: Transaction<Tables>, tenantId: string, id: string, now: Date) {
  const row = await trx
    .selectFrom('api_key_old_secrets')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('tenant_id', '=', tenantId)
    .where('key_id', '=', id)
    .where('expires_at', '>', now)
    .executeTakeFirstOrThrow();
  return Number(row.count);
}

/** Gives a key another secret. Until `oldEndsAt` the one that it had, and those before, work too. */
export async function replaceSecret(
  trx: Transaction<Tables>,
  key: { tenantId: string; id: string; keyHash: Buffer; keyHint: string; oldEndsAt: Date; now: Date },
): Promise<void> {
  const old = () => trx.selectFrom('api_keys').where('tenant_id', '=', key.tenantId).where('id', '=', key.id);
  await trx
    .updateTable('api_key_old_secrets')
    .set({ expires_at: sql`least(expires_at, ${key.oldEndsAt})` })
    .where('tenant_id', '=', key.tenantId)
    .where('key_id', '=', key.id)
    .execute();
  await trx
    .insertInto('api_key_old_secrets')
    .columns(['tenant_id', 'key_id', 'key_hash', 'expires_at'])
    .expression(old().select(['tenant_id', 'id', 'key_hash', sql<Date>`${key.oldEndsAt}::timestamptz`.as('end')]))
    .execute();
  await trx
    .deleteFrom('api_key_old_secrets')
    .where('tenant_id', '=', key.tenantId)
    .where('key_id', '=', key.id)
    .where('expires_at', '<=', key.now)
    .execute();
  await trx
    .updateTable('api_keys')
    .set({ key_hash: key.keyHash, key_hint: key.keyHint, rotated_at: key.now })
    .where('tenant_id', '=', key.tenantId)
    .where('id', '=', key.id)
    .execute();
}

/** Revokes a key; the time of a first revocation stays, and it is false then. */
export async function revokeKey(trx: Transaction<Tables>, tenantId: string, id: string, now: Date): Promise<boolean> {
  const result = await trx
    .updateTable('api_keys')
    .set({ revoked_at: now })
    .where('tenant_id', '=', tenantId)
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

export interface KeyUse {
  tenantId: string;
  id: string;
  usedAt: Date;
}

/** Records uses that are at least a minute later than the one on record, from whichever node that came. */
export async function recordUses(db: Database, uses: KeyUse[]): Promise<void> {
  // Two nodes that record the same keys take the rows in the same order.
  const ordered = [...uses].sort((a, b) => (a.id < b.id ? -1 : 1));
  await sql`
    UPDATE api_keys SET last_used_at = used.at
    FROM unnest(
      ${ordered.map((use) => use.tenantId)}::uuid[],
      ${ordered.map((use) => use.id)}::uuid[],
      ${ordered.map((use) => use.usedAt)}::timestamptz[]
    ) AS used (tenant_id, id, at)
    WHERE api_keys.tenant_id = used.tenant_id AND api_keys.id = used.id
      AND (api_keys.last_used_at IS NULL OR api_keys.last_used_at <= used.at - interval '1 minute')
  `.execute(db);
}
