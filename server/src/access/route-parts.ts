import { Type } from 'typebox';
import type { AuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import type { Database } from '../db/pool.ts';
import type { Caller } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { forbidden, invalidField, notFound } from '../kernel/errors.ts';
import { formatId, type IdSource, parseId } from '../kernel/ids.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { type ApiKeyRole, governsTenant, mayGrant } from './key-roles.ts';
import type { ApiKeyRow, KeyReach } from './queries.ts';
import { type KeyPowers, scopesBeyondRole, withinScopes } from './scopes.ts';

/** What the routes of API keys work with. */
export interface ApiKeyRouteDeps {
  db: Database;
  clock: Clock;
  newId: IdSource;
  audit: AuditLog;
  box: SecretBox;
  /** Called after each committed change and before its answer, so that this node's next request sees it. */
  onChange?: (change: Change) => void;
}

/** The path of a key. */
export const KeyPath = Type.Object({ id: Type.String({ description: 'TypeID, `key_…`.' }) });

/** The UUID that a path names. @throws AppError 404 */
export function keyId(text: string): string {
  const id = parseId('apiKey', text);
  if (id === undefined) throw notFound('API key');
  return id;
}

/** @throws AppError 404 when there is no such key, or none that the caller may see. */
export function found(row: ApiKeyRow | undefined): ApiKeyRow {
  if (row === undefined) throw notFound('API key');
  return row;
}

/** The keys that a caller may see and change. */
export function reachOf(caller: Caller): KeyReach {
  return {
    tenantId: caller.tenantId,
    environmentId: governsTenant(caller.role) ? undefined : caller.environmentId,
  };
}

/** What an entry of the audit log says of its key. */
export function auditedKey(row: ApiKeyRow) {
  return { resourceType: 'api_key', resourceId: formatId('apiKey', row.id), environmentId: row.environment_id };
}

/** Whoever makes, changes or rotates a key could hand it to anyone, himself included. @throws AppError 403 */
export function requireHandOut(caller: Caller, key: KeyPowers): void {
  if (!mayGrant(caller.role, key.role)) throw aboveCaller(caller, key.role);
  if (!withinScopes(caller, key))
    throw forbidden('This API key may do less than that key: its scopes leave something out.');
}

/** What a caller is told who has no say over a role. */
export function aboveCaller(caller: Caller, role: string) {
  return forbidden(`The role "${caller.role}" has no say over keys with the role "${role}", which is above it.`);
}

/** @throws AppError 422 */
export function readScopes(role: ApiKeyRole, scopes: string[] | null | undefined): string[] | null {
  if (scopes === undefined || scopes === null) return null;
  const [beyond] = scopesBeyondRole(role, scopes);
  if (beyond !== undefined)
    throw invalidField('scopes', `may not name "${beyond}": the role "${role}" does not have it`);
  return scopes;
}

/** @throws AppError 422 */
export function readExpiry(text: string | null | undefined, now: Date): Date | null {
  if (text === undefined || text === null) return null;
  const time = new Date(text);
  // RFC 3339 has leap seconds, which a Date does not.
  if (Number.isNaN(time.getTime())) throw invalidField('expires_at', 'is not a time that exists');
  if (time <= now) throw invalidField('expires_at', 'must be in the future');
  return time;
}
