import type { Role } from '../http/permissions.ts';

/** The roles that a key may have, from the most to the least powerful; the last two are equals. */
export const API_KEY_ROLES = ['owner', 'admin', 'developer', 'publisher', 'viewer'] as const;
export type ApiKeyRole = (typeof API_KEY_ROLES)[number];

const RANKS = new Map<string, number>([
  ['operator', 5],
  ['owner', 4],
  ['admin', 3],
  ['developer', 2],
  ['publisher', 1],
  ['viewer', 1],
]);

/** Whether a caller may make or revoke a key with this role: none above its own, and none that is not known. */
export function mayGrant(caller: Role, role: string): boolean {
  return (RANKS.get(caller) ?? 0) >= (RANKS.get(role) ?? Number.POSITIVE_INFINITY);
}

/**
 * Whether a caller's say over keys reaches beyond its own environment. An admin's does not: a key of `development` must
 * not be able to make itself one of `production`.
 */
export function governsTenant(role: Role): boolean {
  return role === 'operator' || role === 'owner';
}

export function isApiKeyRole(text: string): text is ApiKeyRole {
  return (API_KEY_ROLES as readonly string[]).includes(text);
}
