import type { FastifyRequest } from 'fastify';
import { forbidden } from '../kernel/errors.ts';
import { may, type Permission, type Role } from './permissions.ts';

/** The tenant and environment that every row belongs to and every query names. */
export interface Scope {
  tenantId: string;
  environmentId: string;
}

/** Whose credential a request carries. */
export interface Actor {
  kind: 'operator' | 'api_key' | 'jwt' | 'portal_token';
  /** Of an API key its TypeID, of a token its subject; `operator` for the operator. */
  id: string;
}

/** Who is asking, for which tenant and environment. */
export interface Caller extends Scope {
  actor: Actor;
  role: Role;
  /** Of the role's permissions, those that the caller has; undefined: all of them. */
  scopes?: readonly Permission[] | undefined;
  environmentName: string;
}

/** Finds out who is asking. Implemented by `access/`; it throws AppError 401 or 404. */
export type Authenticate = (request: Pick<FastifyRequest, 'headers'>) => Caller | Promise<Caller>;

declare module 'fastify' {
  interface FastifyContextConfig {
    permission?: Permission;
  }
  interface FastifyRequest {
    /** Set before the handler of every route that is not public. */
    caller: Caller;
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
