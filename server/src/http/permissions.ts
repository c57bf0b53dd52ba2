/** What a key may do. `operator` is the platform itself; the others belong to one tenant and environment. */
export const ROLES = ['operator', 'owner', 'admin', 'developer', 'publisher', 'viewer'] as const;
export type Role = (typeof ROLES)[number];

/**
 * What a route needs. Each route declares exactly one; a route without one does not start.
 *
 * - `public`: no key at all
 * - `read`: look at anything of the tenant
 * - `publish`: publish events
 * - `develop`: change webhooks and event types, see secrets, retry
 * - `administer`: settings and API keys of the tenant
 * - `operate`: tenants themselves
 */
export type Permission = 'public' | 'read' | 'publish' | 'develop' | 'administer' | 'operate';

const GRANTS: Record<Role, readonly Permission[]> = {
  operator: ['public', 'read', 'publish', 'develop', 'administer', 'operate'],
  owner: ['public', 'read', 'publish', 'develop', 'administer'],
  admin: ['public', 'read', 'publish', 'develop', 'administer'],
  developer: ['public', 'read', 'publish', 'develop'],
  publisher: ['public', 'publish'],
  viewer: ['public', 'read'],
};

export function may(role: Role, permission: Permission): boolean {
  return GRANTS[role].includes(permission);
}

/** All permissions that a role has. */
export function permissionsOf(role: Role): readonly Permission[] {
  return GRANTS[role];
}
