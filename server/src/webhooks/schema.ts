import { type Static, type TSchema, Type } from 'typebox';
import { presets } from '../catalog/presets/presets.ts';
import { FilterModeSchema, FiltersInput, FiltersShown } from '../routing/filters/schema.ts';
import { EnvelopeSchema } from '../shaping/envelopes.ts';
import { TransformationInput, TransformationShown } from '../shaping/transformation.ts';
import { SignatureSettingsSchema } from '../signing/config.ts';
import { DisplayName } from '../tenants/types.ts';
import { AuthInput, AuthShown } from './auth/settings.ts';
import { BatchingInput, BatchingShown } from './batching.ts';
import { CircuitBreakerInput, CircuitBreakerShown } from './circuit-breaker.ts';
import { URL_LENGTH_MAX } from './egress/judge-url.ts';
import { changeable, orNull } from './nullable.ts';
import { OrderingInput, OrderingShown } from './ordering.ts';
import { RetryPolicyInput, RetryPolicyShown } from './retry-policy.ts';
import { ReadOnlyFields } from './sent-back.ts';
import { COMPRESSIONS, HTTP_METHODS, WEBHOOK_STATUSES } from './settings.ts';

/** Patterns and names a webhook may subscribe to. */
const EVENTS_MAX = 200;

/** Entries of a webhook's `ip_whitelist`. */
const IP_WHITELIST_MAX = 100;

/** PostgreSQL takes no NUL. */
const text = (maxLength: number, description?: string) =>
  Type.String({ maxLength, pattern: '^[^\\u0000]*$', ...(description !== undefined && { description }) });

const headersInput = Type.Unsafe<Record<string, string | null> | null>({
  type: ['object', 'null'],
  additionalProperties: { type: ['string', 'null'] },
  description:
    'Request headers of its own, merged by name: null removes one. A value with `{{ … }}` in it is a Jinja2 template. ' +
    'Values of names that look like credentials are ' +
    'answered as "***"; sent back, the mask keeps the value.',
});

const signatureFields = SignatureSettingsSchema.properties;
const signatureInput = Type.Object(changeable(signatureFields), { additionalProperties: false });

const fields = {
  name: DisplayName,
  url: Type.String({ minLength: 1, maxLength: URL_LENGTH_MAX }),
  events: Type.Array(Type.String({ minLength: 1, maxLength: 200, pattern: '^[^\\u0000-\\u0020\\u007f]*$' }), {
    minItems: 1,
    maxItems: EVENTS_MAX,
    description:
      'Exact names, `*`, or prefix patterns such as `lead.*`. `webhook.disabled`, or `webhook.*`, also asks for the ' +
      'events that Posthorn publishes when it disables a webhook of the environment; `*` does not.',
  }),
  is_active: Type.Boolean({ description: 'Short for `status`: true is `active`, false is `disabled`.' }),
  status: Type.Enum([...WEBHOOK_STATUSES], { description: '`paused` and `disabled` keep events for later.' }),
  description: text(2_000),
  owner: text(200, 'Whose webhook it is, in the publisher’s own terms.'),
  metadata: Type.Unsafe<Record<string, unknown>>({
    type: 'object',
    additionalProperties: true,
    description: 'At most 16 KB of JSON, merged by member: null removes one.',
  }),
  http_method: Type.Enum([...HTTP_METHODS], { description: 'Default `POST`. A `GET` carries no body.' }),
  compression: Type.Enum([...COMPRESSIONS], {
    description: 'Default `none`. `gzip`: bodies are compressed; signatures are of the body before that.',
  }),
  signature_method: Type.Enum(['standard', 'none', 'hmac_sha256_hex', 'hmac_sha256', 'hmac_sha1'], {
    description: 'Short for `signature.method`; `standard` is the same as `none`.',
  }),
  preset: Type.Enum([...presets.keys()], { description: 'Whose defaults it has; the environment’s if null.' }),
  retry_count: Type.Integer({ minimum: 0, maximum: 49, description: 'Short for `retry_policy.max_attempts` - 1.' }),
  timeout_seconds: Type.Integer({ minimum: 1, maximum: 60 }),
  max_concurrency: Type.Integer({
    minimum: 1,
    maximum: 1_000,
    description: 'Requests under way at once, over all nodes.',
  }),
  rate_limit_per_minute: Type.Integer({
    minimum: 1,
    maximum: 600_000,
    description: 'Requests a minute at most, evenly spread, over all nodes.',
  }),
  failover_url: Type.String({
    minLength: 1,
    maxLength: URL_LENGTH_MAX,
    description: 'Another URL of the same receiver, for when `url` fails. Judged as `url` is.',
  }),
  ip_whitelist: Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
    maxItems: IP_WHITELIST_MAX,
    description:
      'CIDRs or addresses that requests may go to; empty or null: no restriction. All addresses of a URL’s host must be ' +
      'among them, when it is written and at every connect.',
  }),
  priority: Type.Integer({
    minimum: -100,
    maximum: 100,
    description:
      "Higher first among this tenant's waiting deliveries; an event's own priority counts before it. Default 0.",
  }),
  verify_tls: Type.Boolean({ description: 'Default true.' }),
  secret: Type.String({ maxLength: 512, description: 'The shared secret; one is generated when it is absent.' }),
};

const optionalInput = {
  description: optionalOrNull(fields.description),
  owner: optionalOrNull(fields.owner),
  metadata: optionalOrNull(fields.metadata),
  is_active: optionalOrNull(fields.is_active),
  status: optionalOrNull(fields.status),
  http_method: optionalOrNull(fields.http_method),
  headers: Type.Optional(headersInput),
  custom_headers: Type.Optional(
    Type.Unsafe<Static<typeof headersInput>>({ ...headersInput, description: 'Another name of `headers`.' }),
  ),
  auth: optionalOrNull(AuthInput),
  compression: optionalOrNull(fields.compression),
  signature_method: optionalOrNull(fields.signature_method),
  signature: optionalOrNull(signatureInput),
  preset: optionalOrNull(fields.preset),
  envelope: optionalOrNull(EnvelopeSchema),
  transformation: optionalOrNull(TransformationInput),
  retry_policy: optionalOrNull(RetryPolicyInput),
  retry_count: optionalOrNull(fields.retry_count),
  timeout_seconds: optionalOrNull(fields.timeout_seconds),
  max_concurrency: optionalOrNull(fields.max_concurrency),
  rate_limit_per_minute: optionalOrNull(fields.rate_limit_per_minute),
  ordering: optionalOrNull(OrderingInput),
  batching: optionalOrNull(BatchingInput),
  circuit_breaker: optionalOrNull(CircuitBreakerInput),
  failover_url: optionalOrNull(fields.failover_url),
  ip_whitelist: optionalOrNull(fields.ip_whitelist),
  priority: optionalOrNull(fields.priority),
  verify_tls: optionalOrNull(fields.verify_tls),
  filters: optionalOrNull(FiltersInput),
  filter_mode: optionalOrNull(FilterModeSchema),
};

/** The body of POST. */
export const WebhookInput = Type.Object(
  {
    name: fields.name,
    url: fields.url,
    events: fields.events,
    secret: optionalOrNull(fields.secret),
    ...optionalInput,
  },
  { additionalProperties: false },
);

/** The body of PUT and PATCH: absent leaves a field as it is, null gives it its default back. */
export const WebhookChange = Type.Object(
  {
    name: Type.Optional(fields.name),
    url: Type.Optional(fields.url),
    events: Type.Optional(fields.events),
    secret: Type.Optional(
      Type.String({
        maxLength: 512,
        description: 'Another one replaces the secret as `/secret/rotate` does, with its default grace.',
      }),
    ),
    ...optionalInput,
    ...ReadOnlyFields,
  },
  { additionalProperties: false },
);
export type WebhookChange = Static<typeof WebhookChange>;

const nullableTime = orNull(Type.String({ format: 'date-time' }));

/** A webhook in an answer: what is in force, whether it says so itself or its preset does. */
export const WebhookShown = Type.Object({
  id: Type.String({ description: 'TypeID, `whk_…`.' }),
  tenant_id: Type.String(),
  environment: Type.String(),
  name: Type.String(),
  url: Type.String(),
  description: orNull(Type.String()),
  owner: orNull(Type.String()),
  metadata: fields.metadata,
  events: Type.Array(Type.String()),
  is_active: Type.Boolean(),
  status: fields.status,
  status_reason: orNull(
    Type.String({ description: '`manual`; `gone`: the receiver answered 410; `failing`: it has failed for days.' }),
  ),
  http_method: fields.http_method,
  headers: Type.Unsafe<Record<string, string>>({
    type: 'object',
    additionalProperties: { type: 'string' },
    description: 'Values of names that look like credentials are masked as "***".',
  }),
  auth: AuthShown,
  compression: fields.compression,
  preset: fields.preset,
  envelope: EnvelopeSchema,
  transformation: orNull(TransformationShown),
  signature: Type.Object({
    ...Type.Required(SignatureSettingsSchema).properties,
    prefix: orNull(Type.Required(SignatureSettingsSchema).properties.prefix),
  }),
  signature_method: signatureFields.method,
  signing_public_key: Type.Optional(
    Type.String({ description: '`whpk_…`, for `v1a` signatures; only where `signature.asymmetric` is on.' }),
  ),
  retry_policy: RetryPolicyShown,
  retry_count: fields.retry_count,
  timeout_seconds: fields.timeout_seconds,
  max_concurrency: orNull(fields.max_concurrency),
  rate_limit_per_minute: orNull(fields.rate_limit_per_minute),
  ordering: OrderingShown,
  batching: BatchingShown,
  circuit_breaker: CircuitBreakerShown,
  circuit_state: Type.Enum(['closed', 'open', 'half_open'], {
    description: '`open`: deliveries wait. `half_open`: one of them tries whether the webhook answers again.',
  }),
  circuit_reopens_at: orNull(
    Type.String({ format: 'date-time', description: 'When a delivery tries an open circuit.' }),
  ),
  failover_url: orNull(fields.failover_url),
  ip_whitelist: orNull(fields.ip_whitelist),
  priority: fields.priority,
  verify_tls: fields.verify_tls,
  filters: FiltersShown,
  filter_mode: FilterModeSchema,
  total_deliveries: Type.Integer({ description: 'Deliveries that have ended.' }),
  successful_deliveries: Type.Integer(),
  failed_deliveries: Type.Integer({ description: 'Deliveries that ended without success.' }),
  filtered_deliveries: Type.Integer({ description: 'Events that the filters kept from it.' }),
  last_triggered_at: nullableTime,
  created_at: Type.String({ format: 'date-time' }),
  updated_at: Type.String({ format: 'date-time' }),
});
export type WebhookShown = Static<typeof WebhookShown>;

/** The answer of POST: also the secret. */
export const WebhookCreated = Type.Object({ ...WebhookShown.properties, secret: Type.String() });

/** `/secret`: the newest secret, and the older ones that still sign beside it. */
export const SecretsShown = Type.Object({
  secret: Type.String(),
  previous: Type.Array(
    Type.Object({
      kind: Type.Enum(['symmetric', 'asymmetric']),
      expires_at: Type.String({ format: 'date-time' }),
    }),
  ),
  public_key: Type.Optional(Type.String({ description: '`whpk_…`, where `signature.asymmetric` is on.' })),
});
export type SecretsShown = Static<typeof SecretsShown>;

function optionalOrNull<T extends TSchema>(schema: T) {
  return Type.Optional(orNull(schema));
}
