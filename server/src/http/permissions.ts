/** What a key may do. `operator` is the platform itself; the others belong to one tenant and environment. */
export const ROLES = ['operator', 'owner', 'admin', 'developer', 'publisher', 'viewer'] as const;

/** What a portal token may do. It has no permission, also no new one: it calls the routes that say so themselves. */
export const PORTAL_ROLES = ['portal_read', 'portal_manage'] as const;

export type Role = (typeof ROLES)[number] | (typeof PORTAL_ROLES)[number];

/**
 * What a route needs. Each route declares exactly one; a route without one does not start.
 *
 * - `public`: no key at all
 * - `read`: look at anything of the tenant
 * - `publish`: publish events
 * - `develop`: change webhooks and event types, see secrets, retry
 * - `administer`: settings and API keys of the tenant
 * - `operate`: tenants themselves
 *
 * One more is no route's own: with `reveal` a role sees payloads, and what receivers answered, as they are; to others they
 * are shown masked (docs/masking.md). An export, which masks nothing, asks for it beside `administer`.
 */
export type Permission = 'public' | 'read' | 'publish' | 'develop' | 'administer' | 'operate' | 'reveal';

const GRANTS: Record<Role, readonly Permission[]> = {
  operator: ['public', 'read', 'publish', 'develop', 'administer', 'operate', 'reveal'],
  owner: ['public', 'read', 'publish', 'develop', 'administer', 'reveal'],
  admin: ['public', 'read', 'publish', 'develop', 'administer', 'reveal'],
  developer: ['public', 'read', 'publish', 'develop'],
  publisher: ['public', 'publish'],
  viewer: ['public', 'read'],
  portal_read: ['public'],
  portal_manage: ['public'],
};

export function may(role: Role, permission: Permission): boolean {
  return GRANTS[role].includes(permission);
}

/** All permissions that a role has. */
export function permissionsOf(role: Role): readonly Permission[] {
  return GRANTS[role];
}

/** What portal tokens may be given; who may manage may also read. */
export const PORTAL_ACCESSES = ['read', 'manage'] as const;
export type PortalAccess = (typeof PORTAL_ACCESSES)[number];

/** Who may call a route. */
export interface RouteAccess {
  permission: Permission;
  /**
   * The access that a portal token needs; absent: none will do. A route that says so narrows each of its queries to
   * the caller's `owner`.
   */
  portal?: PortalAccess | undefined;
}

export function admits({ permission, portal }: RouteAccess, role: Role): boolean {
  switch (role) {
    case 'portal_read':
      return portal === 'read' || permission === 'public';
    case 'portal_manage':
      return portal !== undefined || permission === 'public';
    default:
      return may(role, permission);
  }
}
