import type { Database } from '../db/pool.ts';
import { type Caller, CallerRefused } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { unauthorized } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import type { TenantDirectory, TenantEntry } from '../tenants/directory.ts';
import { type Asking, refuseOtherScope } from './named-scope.ts';
import { createPortalRevocations } from './portal-revocations.ts';
import { type PortalClaims, readPortalToken } from './portal-token.ts';

export interface PortalCallers {
  /** What a token says, when this installation signed it; nothing is looked up for that. */
  read(token: string): PortalClaims | undefined;
  /**
   * The caller of a portal token, without a promise while its tenant and its revocations are in memory.
   *
   * @throws AppError 401 for one that has expired or was revoked, or whose tenant or environment is gone; 403 where the
   * request names another tenant or environment.
   */
  admit(claims: PortalClaims, request: Asking): Caller | Promise<Caller>;
  /** To be called for notices of `portal_tokens` and `tenants`. */
  invalidate(tenantId: string): void;
  invalidateAll(): void;
}

export function createPortalCallers(options: {
  db: Database;
  box: SecretBox;
  clock: Clock;
  tenants: TenantDirectory;
}): PortalCallers {
  const { box, clock, tenants } = options;
  const revocations = createPortalRevocations(options);
  return {
    read: (token) => readPortalToken(box, token),
    admit(claims, request) {
      const tenant = tenants.get(claims.tenantId);
      const revoked = revocations.numberFor(claims);
      if (tenant instanceof Promise || revoked instanceof Promise) {
        return Promise.all([tenant, revoked]).then((found) => admit(claims, ...found, request, clock.now()));
      }
      return admit(claims, tenant, revoked, request, clock.now());
    },
    invalidate: revocations.invalidate,
    invalidateAll: revocations.invalidateAll,
  };
}

function admit(
  claims: PortalClaims,
  tenant: TenantEntry | undefined,
  revoked: number,
  request: Asking,
  nowMs: number,
): Caller {
  if (tenant === undefined) throw unauthorized();
  const { tenantId, environmentId, owner, access } = claims;
  // By its id: an environment that was made anew under the name of a deleted one is another.
  const environment = tenant.environments.values().find(({ id }) => id === environmentId);
  if (environment === undefined) throw unauthorized();
  const environmentName = environment.name;
  const tenantTypeId = formatId('tenant', tenantId);
  const caller: Caller = {
    actor: { kind: 'portal_token', id: owner ?? tenantTypeId },
    tenantId,
    environmentId,
    environmentName,
    role: access === 'manage' ? 'portal_manage' : 'portal_read',
    ...(owner !== undefined && { owner }),
  };
  // It is one that we signed, so the audit log can say whose it was.
  if (nowMs >= claims.expiresAtMs || claims.number < revoked) throw new CallerRefused(caller, unauthorized());
  refuseOtherScope(request, { caller, tenantSlug: tenant.slug, tenantTypeId, environmentName }, 'portal token');
  return caller;
}
