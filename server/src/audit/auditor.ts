import type { FastifyRequest } from 'fastify';
import type { Actor, Reach } from '../http/caller.ts';

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

/** The caller of a request that is let in, with the owner that it keeps to. */
export function auditorOf(request: FastifyRequest): Auditor & Reach {
  const { actor, role, tenantId, environmentId, owner } = request.caller;
  const reach = { tenantId, environmentId, ...(owner !== undefined && { owner }) };
  return { actor, role, ...reach, address: request.ip, requestId: request.id };
}

/** Posthorn itself, where it changes something of a tenant without being asked. */
export function bySystem<Place extends { tenantId: string; environmentId: string | null }>(
  place: Place,
): Auditor & Place {
  return { actor: { kind: 'system', id: 'system' }, role: null, address: null, requestId: null, ...place };
}
