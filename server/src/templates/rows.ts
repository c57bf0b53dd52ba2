import { type Selectable, type SqlBool, sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import type { PageRequest } from '../http/pagination.ts';
import { formatId } from '../kernel/ids.ts';
import type { TemplateContent } from '../shaping/transformation.ts';

/** A template with the content that is in force. */
export type TemplateRow = Selectable<Tables['templates']> & { content: TemplateContent };

export interface VersionRow {
  version: number;
  content: TemplateContent;
  created_at: Date;
}

/** Newest first, one more than the page holds. */
export function listTemplates(
  db: Database,
  scope: Scope,
  filter: { name?: string | undefined; event_type?: string | undefined },
  page: PageRequest,
): Promise<TemplateRow[]> {
  return templates(db, scope)
    .$if(filter.name !== undefined, (query) => query.where('t.name', '=', filter.name ?? ''))
    .$if(filter.event_type !== undefined, (query) => query.where('t.event_type', '=', filter.event_type ?? ''))
    .$if(page.beforeId !== undefined, (query) => query.where('t.id', '<', page.beforeId ?? ''))
    .orderBy('t.id', 'desc')
    .limit(page.limit + 1)
    .execute() as Promise<TemplateRow[]>;
}

export function findTemplate(db: Database, scope: Scope, id: string): Promise<TemplateRow | undefined> {
  return templates(db, scope).where('t.id', '=', id).executeTakeFirst() as Promise<TemplateRow | undefined>;
}

/** The row, locked against other changes until the transaction ends. */
export async function lockTemplate(
  trx: Transaction<Tables>,
  scope: Scope,
  id: string,
): Promise<TemplateRow | undefined> {
  // By itself first: a row that changed while it was waited for is not joined anew, and would be found to have no version.
  await trx
    .selectFrom('templates')
    .select('id')
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('id', '=', id)
    .forUpdate()
    .execute();
  return findTemplate(trx, scope, id);
}

function templates(db: Database, { tenantId, environmentId }: Scope) {
  return db
    .selectFrom('templates as t')
    .innerJoin('template_versions as v', (join) =>
      join
        .onRef('v.tenant_id', '=', 't.tenant_id')
        .onRef('v.template_id', '=', 't.id')
        .onRef('v.version', '=', 't.version'),
    )
    .selectAll('t')
    .select('v.content')
    .where('t.tenant_id', '=', tenantId)
    .where('t.environment_id', '=', environmentId);
}

export async function countTemplates(trx: Transaction<Tables>, scope: Scope): Promise<number> {
  const { count } = await trx
    .selectFrom('templates')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .executeTakeFirstOrThrow();
  return Number(count);
}

/** Those that were kept, the newest first. */
export function listVersions(db: Database, tenantId: string, id: string): Promise<VersionRow[]> {
  return db
    .selectFrom('template_versions')
    .select(['version', 'content', 'created_at'])
    .where('tenant_id', '=', tenantId)
    .where('template_id', '=', id)
    .orderBy('version', 'desc')
    .execute() as Promise<VersionRow[]>;
}

/** Versions kept beside the one that is in force. */
const VERSIONS_KEPT = 100;

/** Adds a version; those that are a hundred versions old and not in force go. */
export async function insertVersion(
  trx: Transaction<Tables>,
  template: { tenantId: string; id: string; version: number; content: TemplateContent },
  now: Date,
): Promise<void> {
  const { tenantId, id, version, content } = template;
  await trx
    .insertInto('template_versions')
    .values({ tenant_id: tenantId, template_id: id, version, content: JSON.stringify(content), created_at: now })
    .execute();
  await trx
    .deleteFrom('template_versions')
    .where('tenant_id', '=', tenantId)
    .where('template_id', '=', id)
    .where('version', '<=', version - VERSIONS_KEPT)
    .execute();
}

/** Names of webhooks that would be left with no template of the name or id that they have, were this one not there. */
export async function webhooksInNeedOf(trx: Transaction<Tables>, row: TemplateRow): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    SELECT w.name FROM webhooks w
    WHERE w.tenant_id = ${row.tenant_id} AND w.environment_id = ${row.environment_id} AND w.transformation IS NOT NULL
      AND (w.transformation->>'template' = ${formatId('template', row.id)}
        OR w.transformation->>'template' = ${row.name} AND ${isTheLast(row)})
    ORDER BY w.id LIMIT 3`.execute(trx);
  return rows.map(({ name }) => name);
}

const isTheLast = (row: TemplateRow) => sql<SqlBool>`NOT EXISTS (
  SELECT FROM templates t WHERE t.tenant_id = ${row.tenant_id} AND t.environment_id = ${row.environment_id}
    AND t.name = ${row.name} AND t.id <> ${row.id})`;
