import { Type } from 'typebox';
import { formatId, timeOfId } from '../kernel/ids.ts';
import { PLATFORM_CHAIN } from './hash.ts';
import type { NamedEntryRow } from './queries.ts';

const nullableText = Type.Union([Type.String(), Type.Null()]);
const fields = (description: string) =>
  Type.Unsafe<object | null>({ type: ['object', 'null'], additionalProperties: true, description });

export const AuditEntryShown = Type.Object(
  {
    id: Type.String({ description: '`aud_…`' }),
    sequence: Type.Integer({ description: 'Its place in the chain, from 1.' }),
    created_at: Type.String(),
    action: Type.String({ description: 'E.g. `webhook.updated`; `access.denied` for a request that was refused.' }),
    outcome: Type.Enum(['success', 'denied']),
    actor: Type.Union(
      [
        Type.Object({
          kind: Type.String({ description: '`operator`, `api_key`, `jwt`, `portal_token` or `system`.' }),
          id: Type.String(),
        }),
        Type.Null(),
      ],
      { description: 'null: nobody that is known.' },
    ),
    role: nullableText,
    tenant_id: Type.Union([Type.String(), Type.Null()], { description: 'null: in the chain of the platform.' }),
    environment: Type.Union([Type.String(), Type.Null()], {
      description: 'null: of the tenant as a whole, or of an environment that was deleted.',
    }),
    address: nullableText,
    request_id: nullableText,
    resource_type: nullableText,
    resource_id: nullableText,
    before: fields('The fields that changed, as they were.'),
    after: fields('The same, as they are. Secrets are masked, and long values are cut with a note.'),
    details: fields('What else is known, e.g. of denied requests their count.'),
    hash: Type.String({ description: 'Hexadecimal SHA-256 over this entry and the hash of the one before it.' }),
  },
  { $id: 'AuditEntry', title: 'Audit entry' },
);
export type AuditEntryShown = Type.Static<typeof AuditEntryShown>;

export function showEntry(row: NamedEntryRow): AuditEntryShown {
  return {
    id: formatId('audit', row.id),
    sequence: row.sequence,
    created_at: new Date(timeOfId(row.id)).toISOString(),
    action: row.action,
    outcome: row.outcome,
    actor: row.actor_kind === null ? null : { kind: row.actor_kind, id: row.actor_id ?? '' },
    role: row.role,
    tenant_id: row.tenant_id === PLATFORM_CHAIN ? null : formatId('tenant', row.tenant_id),
    environment: row.environment,
    address: row.address,
    request_id: row.request_id,
    resource_type: row.resource_type,
    resource_id: row.resource_id,
    before: parsed(row.before),
    after: parsed(row.after),
    details: parsed(row.details),
    hash: row.hash.toString('hex'),
  };
}

function parsed(text: string | null): object | null {
  return text === null ? null : (JSON.parse(text) as object);
}
