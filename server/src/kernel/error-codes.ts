interface CodeOfError {
  /** HTTP status of every answer with this code. */
  status: number;
  /** What has happened, and what helps: a row of docs/errors.md. */
  meaning: string;
}

/**
 * Every code that an error of the API can have, `snake_case`. A code has one status and one meaning for good: callers
 * decide by it. docs/errors.md and the `code` of openapi.json are made of this list.
 */
export const ERROR_CODES = {
  malformed_request: {
    status: 400,
    meaning: 'The request cannot be read: it is no HTTP, its body no JSON, or the two do not agree. Send it otherwise.',
  },
  invalid_cursor: { status: 400, meaning: '`cursor` is not one that this list gave. Start again without it.' },
  invalid_idempotency_key: { status: 400, meaning: '`Idempotency-Key` is not 1 to 255 visible ASCII characters.' },
  invalid_last_event_id: { status: 400, meaning: '`Last-Event-ID` is not an id that the stream gave.' },
  unauthorized: {
    status: 401,
    meaning: 'No key or token came with the request, or one that is wrong, expired or revoked.',
  },
  forbidden: {
    status: 403,
    meaning: 'The key or token is valid, and its role, its scopes or its owner do not allow this.',
  },
  tenant_suspended: {
    status: 403,
    meaning: 'The operator has suspended the tenant. Its data is kept; nothing is taken or delivered for it.',
  },
  not_found: {
    status: 404,
    meaning: 'There is no such path, or no such row of this tenant and environment. Another tenant’s row is none.',
  },
  method_not_allowed: { status: 405, meaning: '`CONNECT` was asked for: Posthorn is no proxy.' },
  request_timeout: { status: 408, meaning: 'The request did not come whole in time; the connection is closed.' },
  already_delivered: { status: 409, meaning: 'The delivery has succeeded: there is nothing to retry or to cancel.' },
  catalog_full: {
    status: 409,
    meaning: 'The environment has all the event types that it may have, or all their bytes.',
  },
  default_tenant: {
    status: 409,
    meaning: 'The tenant `default` keeps its slug and cannot be deleted: requests that name none mean it.',
  },
  deleted_meanwhile: {
    status: 409,
    meaning: 'What the request belongs to was deleted while it ran. Nothing was done.',
  },
  delivery_dead: { status: 409, meaning: 'The delivery was given up: there is nothing to cancel. It can be retried.' },
  delivery_discarded: { status: 409, meaning: 'The delivery was discarded: it can be neither retried nor cancelled.' },
  delivery_in_progress: {
    status: 409,
    meaning: 'An attempt of the delivery is under way. Ask again when it has ended.',
  },
  environment_exists: { status: 409, meaning: 'The tenant has an environment of this name.' },
  erasure_ended: { status: 409, meaning: 'The erasure has ended: there is nothing to cancel.' },
  event_id_reused: {
    status: 409,
    meaning: 'The `event_id` belongs to an event with other contents. Nothing was accepted.',
  },
  event_type_exists: { status: 409, meaning: 'There is an event type of this name.' },
  idempotency_in_progress: {
    status: 409,
    meaning: 'A request with this `Idempotency-Key` is under way. Ask again after `Retry-After`.',
  },
  idempotency_key_reused: { status: 409, meaning: 'The `Idempotency-Key` was used for another request.' },
  incident_resolved: { status: 409, meaning: 'The incident is resolved: it cannot be acknowledged any more.' },
  key_revoked: { status: 409, meaning: 'The API key was revoked: it cannot be changed any more. Make another one.' },
  last_environment: { status: 409, meaning: 'A tenant keeps at least one environment.' },
  name_taken: { status: 409, meaning: 'There is an alert rule of this name.' },
  not_cancellable: { status: 409, meaning: 'A delivery of this status cannot be cancelled.' },
  payload_erased: {
    status: 409,
    meaning: 'The payload of the event was erased: it can be neither sent nor looked at.',
  },
  replay_ended: { status: 409, meaning: 'The replay has ended: there is nothing to cancel.' },
  slug_taken: { status: 409, meaning: 'Another tenant has this slug.' },
  template_changed: { status: 409, meaning: 'The template was changed meanwhile. Read it, and change it again.' },
  template_exists: { status: 409, meaning: 'There is a template of this name, or of this name for this event type.' },
  template_in_use: {
    status: 409,
    meaning: 'Webhooks are shaped by the template. Change their `transformation` first.',
  },
  test_delivery: { status: 409, meaning: 'A test is sent at once: it cannot be cancelled.' },
  test_event: { status: 409, meaning: 'A test is not replayed: send another one.' },
  too_many_alert_rules: { status: 409, meaning: 'The environment has all the alert rules that it may have.' },
  too_many_environments: { status: 409, meaning: 'The tenant has all the environments that it may have.' },
  too_many_erasures: { status: 409, meaning: 'Too many erasures are unfinished. Wait for one, or cancel one.' },
  too_many_jwt_issuers: { status: 409, meaning: 'There are all the JWT issuers that there may be.' },
  too_many_replays: { status: 409, meaning: 'Too many replays are unfinished. Wait for one, or cancel one.' },
  too_many_secrets: {
    status: 409,
    meaning: 'Too many secrets of the webhook or key still work side by side. Wait until the grace of one has ended.',
  },
  too_many_templates: { status: 409, meaning: 'The environment has all the templates that it may have.' },
  too_many_webhooks: {
    status: 409,
    meaning: 'The environment, the owner or the tenant has all the webhooks that it may have.',
  },
  webhook_deleted: { status: 409, meaning: 'The webhook of the delivery was deleted.' },
  webhook_not_active: {
    status: 409,
    meaning: 'The webhook is paused or disabled. Its deliveries are kept, and go on when it is active again.',
  },
  payload_too_large: {
    status: 413,
    meaning: 'The body, or a part of it, is larger than this path or tenant may send.',
  },
  uri_too_long: { status: 414, meaning: 'A part of the path is longer than any id or name.' },
  unsupported_media_type: {
    status: 415,
    meaning: 'The path does not take this `Content-Type`, or `Content-Encoding`.',
  },
  expectation_failed: { status: 417, meaning: 'Of the values of `Expect`, only `100-continue` is understood.' },
  too_deep: { status: 422, meaning: 'The JSON is nested deeper than is read.' },
  unknown_event_type: {
    status: 422,
    meaning: 'The catalogue has no such event type; `details.near_matches` names those that sound alike.',
  },
  validation_failed: {
    status: 422,
    meaning: 'Fields are wrong: `details.fields` says which, and what is wrong with each.',
  },
  queue_full: { status: 429, meaning: 'The tenant has all the waiting deliveries that it may have. Ask again later.' },
  quota_exceeded: {
    status: 429,
    meaning: 'The limit of the day is used up. `Retry-After` is the seconds to midnight, UTC.',
  },
  rate_limited: { status: 429, meaning: 'The tenant or the API key asks too fast. Ask again after `Retry-After`.' },
  too_many_failed_attempts: {
    status: 429,
    meaning: 'Too many requests from this address had no valid key. Wait before another one is tried.',
  },
  too_many_streams: { status: 429, meaning: 'Too many live streams are open, of the tenant or of the server.' },
  headers_too_large: { status: 431, meaning: 'The headers of the request are larger than is read.' },
  internal_error: {
    status: 500,
    meaning: 'A fault of Posthorn. It was logged with the `request_id`.',
  },
  secret_unreadable: {
    status: 500,
    meaning: 'A stored secret cannot be read with the encryption keys that this server has. Give it the missing key.',
  },
  query_timeout: {
    status: 503,
    meaning: 'The request takes the database too long. Nothing was done; ask for less.',
  },
  storage_full: {
    status: 503,
    meaning: 'The disk of the database is full. It goes on by itself when there is room.',
  },
  unavailable: {
    status: 503,
    meaning:
      'The database or the keys of a JWT issuer are out of reach, or the server stops. Ask again after `Retry-After`.',
  },
} as const satisfies Record<string, CodeOfError>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** The codes that have a certain status. */
export type ErrorCodeOf<Status extends number> = {
  [Code in ErrorCode]: (typeof ERROR_CODES)[Code]['status'] extends Status ? Code : never;
}[ErrorCode];
