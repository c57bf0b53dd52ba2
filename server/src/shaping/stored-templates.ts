import { type SqlBool, sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import { formatId, parseId } from '../kernel/ids.ts';
import type { TemplateContent } from './transformation.ts';

/** A stored template at the version that is in force. */
export interface StoredTemplate {
  /** UUID. */
  id: string;
  name: string;
  /** null: for all event types that have none of their own. */
  eventType: string | null;
  version: number;
  content: TemplateContent;
}

/** Those that webhooks name, by the name or the TypeID that they have for them. */
export async function readStoredTemplates(
  db: Database,
  scope: Scope,
  names: ReadonlySet<string>,
): Promise<Map<string, StoredTemplate[]>> {
  const found = new Map<string, StoredTemplate[]>();
  if (names.size === 0) return found;
  const ids = [...names].flatMap((name) => parseId('template', name) ?? []);
  const rows = await db
    .selectFrom('templates as t')
    .innerJoin('template_versions as v', (join) =>
      join
        .onRef('v.tenant_id', '=', 't.tenant_id')
        .onRef('v.template_id', '=', 't.id')
        .onRef('v.version', '=', 't.version'),
    )
    .select(['t.id', 't.name', 't.event_type', 't.version', 'v.content'])
    .where('t.tenant_id', '=', scope.tenantId)
    .where('t.environment_id', '=', scope.environmentId)
    .where(sql<SqlBool>`(t.name = ANY (${[...names]}::text[]) OR t.id = ANY (${ids}::uuid[]))`)
    .execute();
  for (const row of rows) {
    const template: StoredTemplate = {
      id: row.id,
      name: row.name,
      eventType: row.event_type,
      version: row.version,
      content: row.content as TemplateContent,
    };
    for (const name of [row.name, formatId('template', row.id)]) {
      if (names.has(name)) found.set(name, [...(found.get(name) ?? []), template]);
    }
  }
  return found;
}

/**
 * Keeps the templates of a name, or the one of a TypeID, from being deleted or renamed until the transaction ends. false:
 * there is none.
 */
export async function holdStoredTemplates(trx: Transaction<Tables>, scope: Scope, name: string): Promise<boolean> {
  const id = parseId('template', name);
  const held = await trx
    .selectFrom('templates')
    .select('id')
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .$if(id === undefined, (query) => query.where('name', '=', name))
    .$if(id !== undefined, (query) => query.where('id', '=', id ?? ''))
    .forKeyShare()
    .execute();
  return held.length > 0;
}
