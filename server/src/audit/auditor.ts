import type { FastifyRequest } from 'fastify';
import type { Actor, Scope } from '../http/caller.ts';

/** Who changes something, as the audit log has it, and in which tenant and environment. */
export interface Auditor {
  actor: { kind: Actor['kind'] | 'system'; id: string };
  /** null for the system, which needs none. */
  role: string | null;
  tenantId: string;
  /** null: in none. */
  environmentId: string | null;
  /** Where the request came from; null for the system. */
  address: string | null;
  requestId: string | null;
}

/** The caller of a request that is let in. */
export function auditorOf(request: FastifyRequest): Auditor & Scope {
  const { actor, role, tenantId, environmentId } = request.caller;
  return { actor, role, tenantId, environmentId, address: request.ip, requestId: request.id };
}

/** Posthorn itself, where it changes something of a tenant without being asked. */
export function bySystem<Place extends { tenantId: string; environmentId: string | null }>(
  place: Place,
): Auditor & Place {
  return { actor: { kind: 'system', id: 'system' }, role: null, address: null, requestId: null, ...place };
}
