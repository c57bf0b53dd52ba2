import { NO_LIMITS, type TenantLimits } from './types.ts';

const NAMES = Object.keys(NO_LIMITS) as (keyof TenantLimits)[];

/** The limits in a stored value: what it does not hold, or holds in another form, was not set. */
export function readLimits(stored: unknown): TenantLimits {
  const value = typeof stored === 'object' && stored !== null ? (stored as Partial<Record<string, unknown>>) : {};
  return limitsOf((name) => {
    const limit = value[name];
    return typeof limit === 'number' && Number.isSafeInteger(limit) && limit > 0 ? limit : null;
  });
}

export function mergeLimits(current: TenantLimits, change: Partial<TenantLimits> | null | undefined): TenantLimits {
  if (change === null) return NO_LIMITS;
  return limitsOf((name) => {
    const limit = change?.[name];
    return limit === undefined ? current[name] : limit;
  });
}

/** A tenant's own limits, and the defaults where it has none. Undefined: nothing is limited. */
export function limitsInForce(own: TenantLimits, defaults: TenantLimits): TenantLimits | undefined {
  const limits = limitsOf((name) => own[name] ?? defaults[name]);
  return NAMES.some((name) => limits[name] !== null) ? limits : undefined;
}

function limitsOf(of: (name: keyof TenantLimits) => number | null): TenantLimits {
  return {
    requests_per_second: of('requests_per_second'),
    events_per_second: of('events_per_second'),
    events_per_day: of('events_per_day'),
    webhooks: of('webhooks'),
    payload_bytes: of('payload_bytes'),
  };
}
