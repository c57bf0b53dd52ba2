import { type Selectable, sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';

/** A row with its schema and sample as the text that was stored. */
export type EventTypeRow = Omit<
  Selectable<Tables['event_types']>,
  'schema' | 'sample' | 'tenant_id' | 'environment_id'
> & {
  schema: string | null;
  sample: string | null;
};

const COLUMNS = [
  'name',
  'group_name',
  'description',
  'enforce_schema',
  'deprecated',
  'preset',
  'created_at',
  'updated_at',
  sql<string | null>`schema::text`.as('schema'),
  sql<string | null>`sample::text`.as('sample'),
] as const;

/** Names in the order of their bytes, which is the same in every database whatever its language. */
const NAME_IN_ORDER = sql<string>`name COLLATE "C"`;

export interface EventTypeFilter {
  group?: string | undefined;
  preset?: string | undefined;
  /** Part of the name or of the description, in capitals or not. */
  q?: string | undefined;
  afterName?: string | undefined;
  limit: number;
}

/** One row more than the limit, by name. */
export async function listEventTypes(db: Database, scope: Scope, filter: EventTypeFilter): Promise<EventTypeRow[]> {
  const { group, preset, q, afterName } = filter;
  let query = db
    .selectFrom('event_types')
    .select(COLUMNS)
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId);
  if (group !== undefined) query = query.where('group_name', '=', group);
  if (preset !== undefined) query = query.where('preset', '=', preset);
  if (q !== undefined) {
    query = query.where(sql<boolean>`position(lower(${q}) IN lower(name || ' ' || description)) > 0`);
  }
  if (afterName !== undefined) query = query.where(NAME_IN_ORDER, '>', afterName);
  return query
    .orderBy(NAME_IN_ORDER)
    .limit(filter.limit + 1)
    .execute();
}

export async function findEventType(
  db: Database | Transaction<Tables>,
  scope: Scope,
  name: string,
): Promise<EventTypeRow | undefined> {
  return db
    .selectFrom('event_types')
    .select(COLUMNS)
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('name', '=', name)
    .executeTakeFirst();
}

/** What the directory keeps of each event type, by name; the schema only of those that enforce it. */
export async function loadEventTypes(db: Database, scope: Scope) {
  return db
    .selectFrom('event_types')
    .select([
      'name',
      'deprecated',
      sql<string | null>`sample::text`.as('sample'),
      sql<string | null>`CASE WHEN enforce_schema THEN schema::text END`.as('enforced_schema'),
    ])
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .orderBy(NAME_IN_ORDER)
    .execute();
}

/** What a caller decides about an event type; schema and sample are JSON text. */
export type EventTypeFields = Pick<
  EventTypeRow,
  'group_name' | 'description' | 'schema' | 'sample' | 'enforce_schema' | 'deprecated'
>;

/** Undefined when there already is an event type of this name. */
export async function insertEventType(
  trx: Transaction<Tables>,
  scope: Scope,
  name: string,
  fields: EventTypeFields,
  now: Date,
): Promise<EventTypeRow | undefined> {
  return trx
    .insertInto('event_types')
    .values({
      tenant_id: scope.tenantId,
      environment_id: scope.environmentId,
      name,
      ...fields,
      preset: null,
      created_at: now,
      updated_at: now,
    })
    .onConflict((conflict) => conflict.columns(['tenant_id', 'environment_id', 'name']).doNothing())
    .returning(COLUMNS)
    .executeTakeFirst();
}

export async function updateEventType(
  trx: Transaction<Tables>,
  scope: Scope,
  name: string,
  fields: EventTypeFields,
  now: Date,
): Promise<EventTypeRow> {
  return trx
    .updateTable('event_types')
    .set({ ...fields, updated_at: now })
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('name', '=', name)
    .returning(COLUMNS)
    .executeTakeFirstOrThrow();
}

export async function deleteEventType(trx: Transaction<Tables>, scope: Scope, name: string): Promise<void> {
  await trx
    .deleteFrom('event_types')
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('name', '=', name)
    .execute();
}
