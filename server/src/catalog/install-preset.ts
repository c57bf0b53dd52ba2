import { sql, type Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import type { Preset } from './presets/presets.ts';

/**
 * Makes the preset's event types those of the environment and the preset its own, in one statement. A type that is
 * already there gets the preset's text; whether it enforces its schema and is deprecated stays as the tenant has it.
 */
export async function installPreset(trx: Transaction<Tables>, scope: Scope, preset: Preset, now: Date): Promise<void> {
  const types = preset.event_types;
  await sql`
    WITH environment AS (
      UPDATE environments SET preset = ${preset.name}
      WHERE tenant_id = ${scope.tenantId} AND id = ${scope.environmentId}
      RETURNING tenant_id, id
    )
    INSERT INTO event_types AS installed
      (tenant_id, environment_id, name, group_name, description, schema, sample, preset, created_at, updated_at)
    SELECT environment.tenant_id, environment.id, type.name, type.group_name, type.description,
      type.schema::json, type.sample::json, ${preset.name}, ${now}::timestamptz, ${now}::timestamptz
    FROM environment, unnest(
      ${types.map(({ name }) => name)}::text[],
      ${types.map(({ group }) => group)}::text[],
      ${types.map(({ description }) => description)}::text[],
      ${types.map(({ schema }) => JSON.stringify(schema))}::text[],
      ${types.map(({ sample }) => JSON.stringify(sample))}::text[]
    ) AS type (name, group_name, description, schema, sample)
    ON CONFLICT (tenant_id, environment_id, name) DO UPDATE SET
      group_name = excluded.group_name, description = excluded.description, schema = excluded.schema,
      sample = excluded.sample, preset = excluded.preset, updated_at = excluded.updated_at`.execute(trx);
}
