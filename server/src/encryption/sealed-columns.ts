/** A column whose values are sealed. */
export interface SealedColumn {
  table: string;
  /** Its name ends in `_box`, by which a test finds those that are missing here. */
  column: string;
  /** The primary key's columns in order, the tenant first if the row has one, with their types. */
  key: readonly { name: string; type: 'uuid' | 'text' }[];
  /** How values name the column. Never changes: they would no longer open. */
  label: string;
}

/** All of them: what is not listed here is not sealed anew when the data key is rotated. */
export const SEALED_COLUMNS = {
  webhookHeaders: { table: 'webhooks', column: 'headers_box', key: uuids('tenant_id', 'id'), label: 'headers' },
  webhookAuth: { table: 'webhooks', column: 'auth_box', key: uuids('tenant_id', 'id'), label: 'auth' },
  webhookSecret: {
    table: 'webhook_secrets',
    column: 'secret_box',
    key: uuids('tenant_id', 'webhook_id', 'id'),
    label: 'secret',
  },
  idempotentResponse: {
    table: 'idempotent_requests',
    column: 'response_box',
    key: [...uuids('tenant_id', 'environment_id'), { name: 'key', type: 'text' }],
    label: 'response',
  },
  jwtIssuerSecret: { table: 'jwt_issuers', column: 'secret_box', key: uuids('id'), label: 'secret' },
  erasedValue: {
    table: 'erasure_jobs',
    column: 'value_box',
    key: uuids('tenant_id', 'environment_id', 'id'),
    label: 'value',
  },
} as const satisfies Record<string, SealedColumn>;

/**
 * The name of a value's place, which is authenticated with it: table, row, column. `row`: the values of `key`. Only the
 * last of them may hold a slash, so no two places have the same name.
 */
export function sealedPlace({ table, label }: SealedColumn, ...row: readonly string[]): string {
  return `${table}/${row.join('/')}/${label}`;
}

function uuids<const Names extends string[]>(...names: Names) {
  return names.map((name) => ({ name, type: 'uuid' as const }));
}
