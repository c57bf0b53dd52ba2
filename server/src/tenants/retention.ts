import { type Static, Type } from 'typebox';

/**
 * For how many days records are kept, counted from the end of the day (UTC) on which they were made. The defaults are
 * those of the tenant.
 */
export const RETENTION_DEFAULTS: Retention = {
  payload_days: 30,
  attempt_days: 30,
  event_days: 90,
  audit_days: 365,
};

const DAYS_MIN = 1;
const DAYS_MAX = 3_650;

export const RetentionSchema = Type.Object({
  payload_days: Type.Integer({ description: 'What events carried: data and metadata.' }),
  attempt_days: Type.Integer({ description: 'Attempts, with what receivers answered.' }),
  event_days: Type.Integer({
    description: 'Events, deliveries and dead letters. Payloads and attempts are kept no longer.',
  }),
  audit_days: Type.Integer({ description: 'The audit log.' }),
});
export type Retention = Static<typeof RetentionSchema>;

/** What an environment says for itself: null where its tenant decides. */
export const RetentionOverrideSchema = Type.Unsafe<Record<keyof Retention, number | null>>({
  type: 'object',
  required: ['payload_days', 'attempt_days', 'event_days', 'audit_days'],
  properties: Object.fromEntries(Object.keys(RETENTION_DEFAULTS).map((name) => [name, { type: ['integer', 'null'] }])),
});

/** An absent field stays, `null` brings back what is above: the default, or the tenant's. */
export const RetentionChangeSchema = Type.Unsafe<RetentionChange>({
  type: ['object', 'null'],
  additionalProperties: false,
  properties: Object.fromEntries(
    Object.keys(RETENTION_DEFAULTS).map((name) => [
      name,
      { type: ['integer', 'null'], minimum: DAYS_MIN, maximum: DAYS_MAX },
    ]),
  ),
});
export type RetentionChange = Partial<Record<keyof Retention, number | null>> | null;

const NAMES = Object.keys(RETENTION_DEFAULTS) as (keyof Retention)[];

/** The fields that a stored value has, in the form that they should have. */
export function readRetention(stored: unknown): Partial<Retention> {
  const value = typeof stored === 'object' && stored !== null ? (stored as Record<string, unknown>) : {};
  const read: Partial<Retention> = {};
  for (const name of NAMES) {
    const days = value[name];
    if (typeof days === 'number' && Number.isInteger(days) && days >= DAYS_MIN && days <= DAYS_MAX) read[name] = days;
  }
  return read;
}

export function changeRetention(current: Partial<Retention>, change: RetentionChange | undefined): Partial<Retention> {
  if (change === undefined) return current;
  if (change === null) return {};
  const next: Partial<Retention> = {};
  for (const name of NAMES) {
    const days = change[name] === undefined ? current[name] : (change[name] ?? undefined);
    if (days !== undefined) next[name] = days;
  }
  return next;
}

/** What holds for an environment: the stored settings of its tenant, and its own above them. */
export function effectiveRetention(ofTenant: unknown, ofEnvironment: unknown): Retention {
  const chosen = { ...RETENTION_DEFAULTS, ...readRetention(ofTenant), ...readRetention(ofEnvironment) };
  return {
    ...chosen,
    payload_days: Math.min(chosen.payload_days, chosen.event_days),
    attempt_days: Math.min(chosen.attempt_days, chosen.event_days),
  };
}

/** With null for what is not set. */
export function showOverride(stored: unknown): Record<keyof Retention, number | null> {
  const own = readRetention(stored);
  return {
    payload_days: own.payload_days ?? null,
    attempt_days: own.attempt_days ?? null,
    event_days: own.event_days ?? null,
    audit_days: own.audit_days ?? null,
  };
}
