import { Type } from 'typebox';
import { formatId } from '../kernel/ids.ts';
import { LIMIT_MAX } from '../tenants/types.ts';
import type { ApiKeyRow } from './queries.ts';
import { SCOPES } from './scopes.ts';

const ScopeNames = { items: { type: 'string', enum: SCOPES } };

const SCOPES_DESCRIPTION = 'The permissions that the key has of those of its role. Null: all of them.';

/** `scopes` in a request. */
export const Scopes = Type.Unsafe<string[] | null>({
  type: ['array', 'null'],
  ...ScopeNames,
  minItems: 1,
  uniqueItems: true,
  description: SCOPES_DESCRIPTION,
});

/** A time; null: none. */
export const NullableTime = Type.Unsafe<string | null>({ type: ['string', 'null'], format: 'date-time' });

/** `requests_per_second` in a request and in an answer. */
export const RequestsPerSecond = Type.Unsafe<number | null>({
  type: ['integer', 'null'],
  minimum: 1,
  maximum: LIMIT_MAX.perSecond,
  description: 'Requests a second with this key, within what its tenant may ask; null: no limit of its own.',
});

/** A key in an answer. */
export const ApiKeySchema = Type.Object({
  id: Type.String({ description: 'TypeID, `key_…`.' }),
  name: Type.String(),
  role: Type.String(),
  environment: Type.String(),
  scopes: Type.Unsafe<string[] | null>({
    type: ['array', 'null'],
    items: { type: 'string' },
    description: SCOPES_DESCRIPTION,
  }),
  key_hint: Type.String({ description: 'The first characters of the key.' }),
  expires_at: NullableTime,
  last_used_at: NullableTime,
  revoked_at: NullableTime,
  rotated_at: NullableTime,
  old_key_expires_at: Type.Unsafe<string | null>({
    type: ['string', 'null'],
    format: 'date-time',
    description: 'Until then secrets from before the last rotation work too. Null: none does.',
  }),
  requests_per_second: RequestsPerSecond,
  created_at: Type.String({ format: 'date-time' }),
});

/** The same in the one answer that shows the key itself. */
export const CreatedApiKeySchema = Type.Object({
  ...ApiKeySchema.properties,
  key: Type.String({ description: 'The key itself. It is stored hashed and never shown again.' }),
});

/** A key as the API shows it, and as the audit log keeps it. */
export function showKey(row: ApiKeyRow, now: Date) {
  const oldEndsAt = row.revoked_at === null ? row.old_secrets_end_at : null;
  return {
    id: formatId('apiKey', row.id),
    name: row.name,
    role: row.role,
    environment: row.environment,
    scopes: row.scopes,
    key_hint: row.key_hint,
    expires_at: row.expires_at?.toISOString() ?? null,
    last_used_at: row.last_used_at?.toISOString() ?? null,
    revoked_at: row.revoked_at?.toISOString() ?? null,
    rotated_at: row.rotated_at?.toISOString() ?? null,
    old_key_expires_at: oldEndsAt !== null && oldEndsAt > now ? oldEndsAt.toISOString() : null,
    requests_per_second: row.requests_per_second,
    created_at: row.created_at.toISOString(),
  };
}
