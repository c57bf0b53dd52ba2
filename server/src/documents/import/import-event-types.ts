import { sql, type Transaction } from 'kysely';
import { mergeFields } from '../../catalog/event-type-body.ts';
import { canonicalText } from '../../catalog/json-schema/canonical.ts';
import type { EventTypeFields, EventTypeRow } from '../../catalog/queries.ts';
import type { Tables } from '../../db/tables.ts';
import type { Scope } from '../../http/caller.ts';
import type { ImportedType } from './read-document.ts';

/** What becomes of one event type of a document. */
export interface PlannedType {
  name: string;
  result: 'created' | 'updated' | 'skipped';
  /** Why it is skipped. */
  reason?: 'unchanged' | 'exists';
  fields: EventTypeFields;
}

/** What an import does to the event types that are there. What the document does not say of a type stays as it is. */
export function planImport(
  imported: readonly ImportedType[],
  present: ReadonlyMap<string, EventTypeRow>,
  existing: 'update' | 'skip',
): PlannedType[] {
  return imported.map(({ name, change }) => {
    const current = present.get(name);
    const fields = mergeFields(name, current, change);
    if (current === undefined) return { name, result: 'created', fields };
    if (existing === 'skip') return { name, result: 'skipped', reason: 'exists', fields };
    if (isSame(current, fields)) return { name, result: 'skipped', reason: 'unchanged', fields };
    return { name, result: 'updated', fields };
  });
}

function isSame(current: EventTypeFields, fields: EventTypeFields): boolean {
  return (
    current.group_name === fields.group_name &&
    current.description === fields.description &&
    current.deprecated === fields.deprecated &&
    sameJson(current.schema, fields.schema) &&
    sameJson(current.sample, fields.sample) &&
    sameNumbers(current.sample ?? '', fields.sample ?? '')
  );
}

/** Whether the numbers of two texts of the same value are spelled the same: samples are sent as they are spelled. */
function sameNumbers(one: string, other: string): boolean {
  const numbers = (json: string) =>
    (json.replaceAll(/"[^"\\]*(?:\\.[^"\\]*)*"/g, '""').match(/-?\d[\d.eE+-]*/g) ?? []).sort().join(' ');
  return one === other || numbers(one) === numbers(other);
}

function sameJson(one: string | null, other: string | null): boolean {
  if (one === other) return true;
  if (one === null || other === null) return false;
  return canonicalText(JSON.parse(one)) === canonicalText(JSON.parse(other));
}

/** Writes all types that the plan creates or updates, in one statement. */
export async function writeImport(
  trx: Transaction<Tables>,
  scope: Scope,
  plan: readonly PlannedType[],
  now: Date,
): Promise<void> {
  const written = plan.filter(({ result }) => result !== 'skipped');
  if (written.length === 0) return;
  const column = (name: 'group_name' | 'description' | 'schema' | 'sample') =>
    written.map(({ fields }) => fields[name]);
  await sql`
    INSERT INTO event_types AS present
      (tenant_id, environment_id, name, group_name, description, schema, sample, deprecated, created_at, updated_at)
    SELECT ${scope.tenantId}::uuid, ${scope.environmentId}::uuid, type.name, type.group_name, type.description,
      type.schema::json, type.sample::json, type.deprecated, ${now}::timestamptz, ${now}::timestamptz
    FROM unnest(
      ${written.map(({ name }) => name)}::text[],
      ${column('group_name')}::text[],
      ${column('description')}::text[],
      ${column('schema')}::text[],
      ${column('sample')}::text[],
      ${written.map(({ fields }) => fields.deprecated)}::boolean[]
    ) AS type (name, group_name, description, schema, sample, deprecated)
    ON CONFLICT (tenant_id, environment_id, name) DO UPDATE SET
      group_name = excluded.group_name, description = excluded.description, schema = excluded.schema,
      sample = excluded.sample, deprecated = excluded.deprecated, updated_at = excluded.updated_at`.execute(trx);
}
