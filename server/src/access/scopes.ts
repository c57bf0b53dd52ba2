import { type Caller, permits } from '../http/caller.ts';
import { type Permission, permissionsOf } from '../http/permissions.ts';
import type { ApiKeyRole } from './key-roles.ts';

/** The permissions that a key may be narrowed to. `operate` is the operator's alone, and `public` needs no key. */
export const SCOPES: readonly Permission[] = permissionsOf('owner').filter((permission) => permission !== 'public');

export function isScope(text: string): text is Permission {
  return (SCOPES as readonly string[]).includes(text);
}

/** What a key may do: null means all that its role may. */
export interface KeyPowers {
  role: string;
  scopes: readonly string[] | null;
}

/** The scopes that the role does not have anyway. */
export function scopesBeyondRole(role: ApiKeyRole, scopes: readonly string[]): string[] {
  const having: readonly string[] = permissionsOf(role);
  return scopes.filter((scope) => !having.includes(scope));
}

/** Whether a key may do nothing that a caller's own scopes leave out. */
export function withinScopes(caller: Caller, { role, scopes }: KeyPowers): boolean {
  const powers = scopes ?? permissionsOf(role as ApiKeyRole);
  return powers.every((power) => !isScope(power) || permits(caller, power));
}
