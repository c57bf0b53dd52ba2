import type { Selectable, Transaction } from 'kysely';
import type { Database } from '../../db/pool.ts';
import type { Tables } from '../../db/tables.ts';
import type { PageRequest } from '../../http/pagination.ts';

// Issuers are the operator's: these queries name no tenant.

export type JwtIssuerRow = Selectable<Tables['jwt_issuers']>;

/** Those of a tenant's own are in `tenant_id`; null: any tenant. */
export async function allIssuers(db: Database): Promise<JwtIssuerRow[]> {
  return db.selectFrom('jwt_issuers').selectAll().orderBy('id').execute();
}

/** One row more than the page's limit, newest first. */
export async function listIssuers(db: Database, page: PageRequest): Promise<JwtIssuerRow[]> {
  return db
    .selectFrom('jwt_issuers')
    .selectAll()
    .$if(page.beforeId !== undefined, (query) => query.where('id', '<', page.beforeId as string))
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

export async function findIssuer(db: Database, id: string): Promise<JwtIssuerRow | undefined> {
  return db.selectFrom('jwt_issuers').selectAll().where('id', '=', id).executeTakeFirst();
}

/** The same, and no one else changes it until the transaction ends. */
export async function lockIssuer(trx: Transaction<Tables>, id: string): Promise<JwtIssuerRow | undefined> {
  return trx.selectFrom('jwt_issuers').selectAll().where('id', '=', id).forUpdate().executeTakeFirst();
}

export async function countIssuers(trx: Transaction<Tables>): Promise<number> {
  const row = await trx
    .selectFrom('jwt_issuers')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow();
  return Number(row.count);
}

export async function insertIssuer(trx: Transaction<Tables>, row: JwtIssuerRow): Promise<void> {
  await trx.insertInto('jwt_issuers').values(written(row)).execute();
}

export async function updateIssuer(trx: Transaction<Tables>, row: JwtIssuerRow): Promise<void> {
  await trx.updateTable('jwt_issuers').set(written(row)).where('id', '=', row.id).execute();
}

/** Whether there was one. */
export async function deleteIssuer(trx: Transaction<Tables>, id: string): Promise<boolean> {
  const { numDeletedRows } = await trx.deleteFrom('jwt_issuers').where('id', '=', id).executeTakeFirstOrThrow();
  return numDeletedRows > 0n;
}

function written(row: JwtIssuerRow) {
  return {
    ...row,
    claims: JSON.stringify(row.claims),
    roles: row.roles === null ? null : JSON.stringify(row.roles),
  };
}
