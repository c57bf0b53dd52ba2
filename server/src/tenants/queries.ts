import { CompiledQuery, type Selectable, sql, type Transaction } from 'kysely';
import { type Change, changeText, NOTIFY_SQL } from '../db/notify.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { PageRequest } from '../http/pagination.ts';
import { type IdSource, parseId } from '../kernel/ids.ts';
import { FIRST_ENVIRONMENTS, SLUG_PATTERN, type TenantLimits, type TenantSettings } from './types.ts';

export type TenantRow = Selectable<Tables['tenants']>;
export type EnvironmentRow = Selectable<Tables['environments']>;

/** How a path or a header names a tenant. */
export type TenantRef = { id: string } | { slug: string };

/** Undefined for a text that is neither a tenant's TypeID nor a slug: it names no tenant. */
export function readTenantRef(text: string): TenantRef | undefined {
  const id = parseId('tenant', text);
  if (id !== undefined) return { id };
  return SLUG.test(text) ? { slug: text } : undefined;
}

const SLUG = new RegExp(SLUG_PATTERN);

export async function findTenant(db: Database, ref: TenantRef): Promise<TenantRow | undefined> {
  return db.selectFrom('tenants').selectAll().where(sameTenant(ref)).executeTakeFirst();
}

/** The same, and no one else changes the tenant or its set of environments until the transaction ends. */
export async function lockTenant(trx: Transaction<Tables>, ref: TenantRef): Promise<TenantRow | undefined> {
  return trx.selectFrom('tenants').selectAll().where(sameTenant(ref)).forUpdate().executeTakeFirst();
}

function sameTenant(ref: TenantRef) {
  return 'id' in ref ? sql<boolean>`tenants.id = ${ref.id}` : sql<boolean>`tenants.slug = ${ref.slug}`;
}

/** One row more than the page's limit, newest first. */
export async function listTenants(db: Database, page: PageRequest): Promise<TenantRow[]> {
  return db
    .selectFrom('tenants')
    .selectAll()
    .$if(page.beforeId !== undefined, (query) => query.where('id', '<', page.beforeId as string))
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

export interface NewTenant {
  slug: string;
  name: string;
  /** What it does not say has its default. */
  settings: Partial<TenantSettings>;
  limits?: TenantLimits;
}

/** Inserts a tenant and its first environments, and tells every node. Undefined when the slug is taken. */
export async function insertTenant(
  trx: Transaction<Tables>,
  tenant: NewTenant,
  newId: IdSource,
  now: Date,
): Promise<TenantRow | undefined> {
  // A second transaction with the same slug waits here for the first one's end.
  const row = await trx
    .insertInto('tenants')
    .values({
      id: newId(),
      slug: tenant.slug,
      name: tenant.name,
      settings: JSON.stringify(tenant.settings),
      limits: JSON.stringify(tenant.limits ?? {}),
      created_at: now,
      updated_at: now,
    })
    .onConflict((conflict) => conflict.column('slug').doNothing())
    .returningAll()
    .executeTakeFirst();
  if (row === undefined) return undefined;
  for (const name of FIRST_ENVIRONMENTS) {
    await insertEnvironment(trx, { tenantId: row.id, id: newId(), name, now });
  }
  await notify(trx, { topic: 'tenants', tenantId: row.id });
  return row;
}

/** Undefined when the tenant already has an environment of this name. */
export async function insertEnvironment(
  trx: Transaction<Tables>,
  environment: { tenantId: string; id: string; name: string; now: Date },
): Promise<EnvironmentRow | undefined> {
  return trx
    .insertInto('environments')
    .values({
      tenant_id: environment.tenantId,
      id: environment.id,
      name: environment.name,
      preset: 'standard',
      created_at: environment.now,
    })
    .onConflict((conflict) => conflict.columns(['tenant_id', 'name']).doNothing())
    .returningAll()
    .executeTakeFirst();
}

/** One row more than the page's limit, newest first. */
export async function listEnvironments(db: Database, tenantId: string, page: PageRequest): Promise<EnvironmentRow[]> {
  return db
    .selectFrom('environments')
    .selectAll()
    .where('tenant_id', '=', tenantId)
    .$if(page.beforeId !== undefined, (query) => query.where('id', '<', page.beforeId as string))
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

/** Tells every node of a change when the transaction commits. */
export async function notify(trx: Transaction<Tables>, change: Change): Promise<void> {
  await trx.executeQuery(CompiledQuery.raw(NOTIFY_SQL, [changeText(change)]));
}
