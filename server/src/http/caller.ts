import type { FastifyRequest } from 'fastify';
import { AppError, forbidden } from '../kernel/errors.ts';
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
  }
  interface FastifyRequest {
    /** Set before the handler of every route that is not public. */
    caller: Caller;
  }
}

/** @throws AppError 403 when the caller's role does not have the permission. */
export function requirePermission(caller: Caller, permission: Permission): void {
  if (!may(caller.role, permission)) {
    throw forbidden(`This needs the permission "${permission}", which the role "${caller.role}" does not have.`);
  }
}
