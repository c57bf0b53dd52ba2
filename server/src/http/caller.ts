import type { FastifyRequest } from 'fastify';
import { AppError, forbidden } from '../kernel/errors.ts';
import { admits, may, type Permission, type PortalAccess, type Role, type RouteAccess } from './permissions.ts';

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
  /** Of the role's permissions, those that the caller has; undefined: all of them. */
  scopes?: readonly Permission[] | undefined;
  environmentName: string;
  /** The limit of the credential itself, beside its tenant's; undefined: none. */
  requestsPerSecond?: number;
}

/** What was taken of limits for a request. */
export interface Grant {
  /** For the answer: `RateLimit-*` of the limit of which least is left. */
  headers: Readonly<Record<string, string>>;
  /** What is left of it. */
  remaining: number;
  /** It was not needed after all, or only a part of it. */
  giveBack(count: number): void;
}

/**
 * Lets an authenticated request in, or throws AppError 403 when its tenant is suspended and 429 when a limit is used up.
 * `sends`: it makes something leave for a receiver. Undefined: nothing limits it. Implemented by `limits/`.
 */
export type Admit = (caller: Caller, sends: boolean) => Grant | undefined | Promise<Grant | undefined>;

/** A refusal of a caller that is known although it is not let in: its key has expired, or names another tenant. */
export class CallerRefused extends AppError {
  readonly caller: Caller;

  constructor(caller: Caller, { code, message }: AppError) {
    super({ code, message });
    this.caller = caller;
  }
}

/** Finds out who is asking. Implemented by `access/`; it throws AppError 401 or 404. */
export type Authenticate = (request: Pick<FastifyRequest, 'headers' | 'ip'>) => Caller | Promise<Caller>;

declare module 'fastify' {
  interface FastifyContextConfig {
    permission?: Permission;
    portal?: PortalAccess;
    /** It makes something leave for a receiver, which nobody may for a suspended tenant. Publishing always does. */
    sends?: boolean;
  }
  interface FastifyRequest {
    /** Set before the handler of every route that is not public. */
    caller: Caller;
    /** What was taken of limits for it; undefined: nothing limits it. */
    grant: Grant | undefined;
  }
}

/**
 * Whether a caller has a permission: its role has it, and so have its scopes where it has some. All that asks what a
 * caller may do asks here.
 */
export function permits(caller: Pick<Caller, 'role' | 'scopes'>, permission: Permission): boolean {
  if (!may(caller.role, permission)) return false;
  return caller.scopes === undefined || permission === 'public' || caller.scopes.includes(permission);
}

/** @throws AppError 403 when the caller does not have the permission. */
export function requirePermission(caller: Caller, permission: Permission): void {
  if (permits(caller, permission)) return;
  const without = may(caller.role, permission)
    ? 'which is not among the scopes of this API key'
    : `which the role "${caller.role}" does not have`;
  throw forbidden(`This needs the permission "${permission}", ${without}.`);
}

/** @throws AppError 403 when the route is not for this caller. */
export function requireAccess(caller: Caller, route: RouteAccess): void {
  if (caller.role !== 'portal_read' && caller.role !== 'portal_manage') {
    requirePermission(caller, route.permission);
    return;
  }
  if (admits(route, caller.role)) return;
  if (caller.role === 'portal_read' && route.portal !== undefined) {
    throw forbidden('This needs a portal token with the access "manage".');
  }
  throw forbidden('Portal tokens cannot be used for this.');
}
