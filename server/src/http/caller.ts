import type { FastifyRequest } from 'fastify';
import { AppError, forbidden } from '../kernel/errors.ts';
import { admits, type Permission, type PortalAccess, type Role, type RouteAccess } from './permissions.ts';

/** The tenant and environment that every row belongs to and every query names. */
export interface Scope {
  tenantId: string;
  environmentId: string;
}

/** What of a scope a caller may see and change. Queries that a portal token leads to take this one, and keep to it. */
export interface Reach extends Scope {
  /** Only webhooks with this owner, and what belongs to them; absent: everything. */
  owner?: string;
}

/** Whose credential a request carries. */
export interface Actor {
  kind: 'operator' | 'api_key' | 'jwt' | 'portal_token';
  /** Of an API key its TypeID, of a token its subject (of a portal token its owner, else the tenant); `operator` for the operator. */
  id: string;
}

/** Who is asking, for which tenant and environment. */
export interface Caller extends Reach {
  actor: Actor;
  role: Role;
  environmentName: string;
}

/** A refusal of a caller that is known although it is not let in: its key has expired, or names another tenant. */
export class CallerRefused extends AppError {
  readonly caller: Caller;

  constructor(caller: Caller, { code, status, message }: AppError) {
    super({ code, status, message });
    this.caller = caller;
  }
}

/** Finds out who is asking. Implemented by `access/`; it throws AppError 401 or 404. */
export type Authenticate = (request: Pick<FastifyRequest, 'headers'>) => Caller | Promise<Caller>;

declare module 'fastify' {
  interface FastifyContextConfig {
    permission?: Permission;
    portal?: PortalAccess;
  }
  interface FastifyRequest {
    /** Set before the handler of every route that is not public. */
    caller: Caller;
  }
}

/** @throws AppError 403 when the route is not for callers of this role. */
export function requireAccess(caller: Caller, route: RouteAccess): void {
  if (admits(route, caller.role)) return;
  if (caller.role === 'portal_manage' || (caller.role === 'portal_read' && route.portal === undefined)) {
    throw forbidden('Portal tokens cannot be used for this.');
  }
  if (caller.role === 'portal_read') throw forbidden('This needs a portal token with the access "manage".');
  throw forbidden(`This needs the permission "${route.permission}", which the role "${caller.role}" does not have.`);
}
