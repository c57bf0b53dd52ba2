import { type Static, Type } from 'typebox';
import {
  DEFAULT_RULES,
  DETECTORS,
  type MaskingRules,
  NAME_LENGTH_MAX,
  NAMES_MAX,
  PATH_LENGTH_MAX,
  PATHS_MAX,
} from '../masking/rules.ts';
import {
  RETENTION_DEFAULTS,
  type RetentionChange,
  RetentionChangeSchema,
  RetentionOverrideSchema,
  RetentionSchema,
} from './retention.ts';

/**
 * Slugs of tenants and names of environments: a DNS label (RFC 1123), so that they fit in a path, a header and a host
 * name. No slug is a TypeID, which has an underscore, so a path may carry either.
 */
export const SLUG_PATTERN = '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$';

/** The tenant that a request without `X-Tenant-Id` means. It cannot be deleted or renamed away. */
export const DEFAULT_TENANT_SLUG = 'default';

/** The environments that every new tenant has, in the order in which they are made. */
export const FIRST_ENVIRONMENTS = ['development', 'staging', 'production'] as const;

/** Environments a tenant may have. */
export const ENVIRONMENTS_MAX = 20;

/** A name for people: 1 to 200 characters that begin with no space and hold no control characters. */
export const DisplayName = Type.String({
  minLength: 1,
  maxLength: 200,
  pattern: '^[^\\s\\u0000-\\u001f\\u007f][^\\u0000-\\u001f\\u007f]*$',
});

/** A slug or an environment's name. */
export const Slug = Type.String({ pattern: SLUG_PATTERN });

const masking = {
  paths: {
    type: 'array',
    maxItems: PATHS_MAX,
    items: { type: 'string', minLength: 1, maxLength: PATH_LENGTH_MAX },
    description: 'Where values are masked in the data of events: `customer.email`, `items[*].card`, `**.iban`.',
  },
  detectors: {
    type: 'array',
    uniqueItems: true,
    items: { enum: DETECTORS },
    description: 'What is masked wherever it is found.',
  },
  names: {
    type: 'array',
    maxItems: NAMES_MAX,
    items: { type: 'string', minLength: 1, maxLength: NAME_LENGTH_MAX },
    description: 'Names of members and headers whose values are masked, beside those that look like credentials.',
  },
  except_names: {
    type: 'array',
    maxItems: NAMES_MAX,
    items: { type: 'string', minLength: 1, maxLength: NAME_LENGTH_MAX },
    description: 'Names of members that look like credentials and are none here.',
  },
} as const;

/** What a tenant decides for itself, every field with a value. */
const TenantSettingsSchema = Type.Object({
  masking: Type.Unsafe<MaskingRules>({
    type: 'object',
    required: Object.keys(masking),
    properties: masking,
    description: 'What roles without the permission `reveal` are not shown; see docs/masking.md.',
  }),
  allow_unknown_event_types: Type.Boolean({
    description: 'Whether events may be published whose type is not in the catalog.',
  }),
  retention: RetentionSchema,
});
export type TenantSettings = Static<typeof TenantSettingsSchema>;

/** The settings of a tenant that never set any. */
export const DEFAULT_SETTINGS: TenantSettings = {
  masking: DEFAULT_RULES,
  allow_unknown_event_types: false,
  retention: RETENTION_DEFAULTS,
};

/** A change of settings: an absent field stays, `null` brings its default back, and `null` for the whole resets all. */
export const TenantSettingsChangeSchema = Type.Unsafe<{
  allow_unknown_event_types?: boolean | null;
  masking?: MaskingChange | null;
  retention?: RetentionChange;
} | null>({
  type: ['object', 'null'],
  additionalProperties: false,
  properties: {
    allow_unknown_event_types: { type: ['boolean', 'null'] },
    masking: {
      type: ['object', 'null'],
      additionalProperties: false,
      properties: Object.fromEntries(
        Object.entries(masking).map(([name, schema]) => [name, { ...schema, type: [schema.type, 'null'] }]),
      ),
    },
    retention: RetentionChangeSchema,
  },
});

/** The same rule within: an absent list stays, `null` empties it. */
export type MaskingChange = { [Name in keyof MaskingRules]?: MaskingRules[Name] | null };
export type TenantSettingsChange = Static<typeof TenantSettingsChangeSchema>;

/** What a tenant may use. Each null: no limit. */
export interface TenantLimits {
  requests_per_second: number | null;
  events_per_second: number | null;
  /** Of the UTC day. */
  events_per_day: number | null;
  webhooks: number | null;
  /** Of an event's data, as published. */
  payload_bytes: number | null;
}

/** The limits of a tenant of a program that has no defaults. */
export const NO_LIMITS: TenantLimits = Object.freeze({
  requests_per_second: null,
  events_per_second: null,
  events_per_day: null,
  webhooks: null,
  payload_bytes: null,
});

/** The greatest value of each limit. */
export const LIMIT_MAX = { perSecond: 1_000_000, perDay: 999_999_999, webhooks: 200_000, bytes: 1_048_576 } as const;

const limit = (maximum: number, description: string) =>
  Type.Unsafe<number | null>({ type: ['integer', 'null'], minimum: 1, maximum, description });

/** The operator's word on what a tenant may use. null: the program's default, which is none unless it was set. */
const TenantLimitsSchema = Type.Object({
  requests_per_second: limit(LIMIT_MAX.perSecond, 'Requests a second with all of its credentials together.'),
  events_per_second: limit(LIMIT_MAX.perSecond, 'Events published a second; each event of a batch counts.'),
  events_per_day: limit(LIMIT_MAX.perDay, 'Events published a day (UTC). What was published before does not count.'),
  webhooks: limit(LIMIT_MAX.webhooks, 'Webhooks of all environments together.'),
  payload_bytes: limit(LIMIT_MAX.bytes, "Bytes of an event's data."),
});

/** A change of limits: an absent one stays, `null` brings its default back, and `null` for the whole resets all. */
export const TenantLimitsChangeSchema = Type.Unsafe<Partial<TenantLimits> | null>({
  type: ['object', 'null'],
  additionalProperties: false,
  properties: TenantLimitsSchema.properties,
});

export const TenantSchema = Type.Object({
  id: Type.String({ description: 'TypeID, `tnt_…`.' }),
  name: Type.String(),
  slug: Type.String(),
  settings: TenantSettingsSchema,
  limits: TenantLimitsSchema,
  suspended_at: Type.Unsafe<string | null>({
    type: ['string', 'null'],
    format: 'date-time',
    description: 'Since when its traffic stands still; null: it does not.',
  }),
  suspended_reason: Type.Unsafe<string | null>({ type: ['string', 'null'] }),
  created_at: Type.String({ format: 'date-time' }),
  updated_at: Type.String({ format: 'date-time' }),
});

export const EnvironmentSchema = Type.Object({
  id: Type.String({ description: 'TypeID, `env_…`.' }),
  name: Type.String(),
  preset: Type.String({ description: 'The preset whose defaults its webhooks have.' }),
  retention: RetentionOverrideSchema,
  created_at: Type.String({ format: 'date-time' }),
});
