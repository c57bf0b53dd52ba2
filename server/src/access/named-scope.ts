import { type Authenticate, type Caller, CallerRefused } from '../http/caller.ts';
import { forbidden } from '../kernel/errors.ts';

/** What of a request says who is asking. */
export type Asking = Pick<Parameters<Authenticate>[0], 'headers'>;

/**
 * A credential acts in its own tenant and environment. A request may name them; naming others is a mistake, and is not
 * passed over.
 *
 * @throws CallerRefused 403
 */
export function refuseOtherScope(
  { headers }: Asking,
  own: { caller: Caller; tenantSlug: string; tenantTypeId: string; environmentName: string },
  credential: 'API key' | 'token' | 'portal token',
): void {
  const tenant = headers['x-tenant-id'];
  if (tenant !== undefined && tenant !== own.tenantSlug && tenant !== own.tenantTypeId) {
    const refusal = forbidden(`X-Tenant-Id names another tenant than the one of this ${credential}.`);
    throw new CallerRefused(own.caller, refusal);
  }
  const environment = headers['x-environment'];
  if (environment !== undefined && environment !== own.environmentName) {
    const refusal = forbidden(`X-Environment names another environment than the one of this ${credential}.`);
    throw new CallerRefused(own.caller, refusal);
  }
}
