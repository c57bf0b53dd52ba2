import callCenter from './call-center.json' with { type: 'json' };
import ispCommunications from './isp-communications.json' with { type: 'json' };
import ispFramework from './isp-framework.json' with { type: 'json' };
import standard from './standard.json' with { type: 'json' };
import supportAutoresponder from './support-autoresponder.json' with { type: 'json' };
import whatsappCrm from './whatsapp-crm.json' with { type: 'json' };

export type PresetName =
  | 'standard'
  | 'isp-communications'
  | 'isp-framework'
  | 'call-center'
  | 'support-autoresponder'
  | 'whatsapp-crm';

/**
 * The object that is put around an event's `data` in the request body:
 * - `standard`: `{type, timestamp, data}`, as the Standard Webhooks specification recommends;
 * - `event`: `{event, timestamp, data}`;
 * - `event_type`: `{event_type, event_id, timestamp, data, metadata}`;
 * - `flat`: `{event, timestamp, ...data}`, so `data` has no key `event` or `timestamp`;
 * - `cloudevents`: a CloudEvents 1.0 object in structured mode;
 * - `cloudevents_binary`: `data` alone, with the rest of a CloudEvents 1.0 event in `ce-` headers;
 * - `raw`: `data` alone.
 */
export type PresetEnvelope =
  | 'standard'
  | 'event'
  | 'event_type'
  | 'flat'
  | 'cloudevents'
  | 'cloudevents_binary'
  | 'raw';

/**
 * The signature sent beside the Standard Webhooks one, over the bytes of the body: `hmac_sha256_hex` is the bare hex
 * digest, `hmac_sha256` is `sha256=<hex>`, `hmac_sha1` is `sha1=<hex>`, `none` sends no such header.
 */
export type PresetSignatureMethod = 'hmac_sha256_hex' | 'hmac_sha256' | 'hmac_sha1' | 'none';

/** When a delivery that failed is tried again. */
export interface PresetRetryPolicy {
  readonly enabled: boolean;
  /** Attempts in all, the first included; 1..50. */
  readonly max_attempts: number;
  /** The wait before the second attempt. */
  readonly initial_delay_seconds: number;
  /** No wait grows beyond this. */
  readonly max_delay_seconds: number;
  /** Each wait is this many times the one before. */
  readonly backoff_multiplier: number;
  /** 0..1: the share of a wait that may be added to it at random, so that retries of one outage spread out. */
  readonly jitter: number;
  /** The answers that are worth another attempt; absent: every one outside 200..299. */
  readonly retry_on_status_codes?: readonly number[];
  /** The waits one by one. While present it takes the place of the three numbers of the backoff. */
  readonly schedule_seconds?: readonly number[];
}

/** How a tenant's webhooks deliver unless they say otherwise. Each field becomes the webhook field of that name. */
export interface PresetDelivery {
  readonly envelope: PresetEnvelope;
  /** null: `Posthorn/<version>`. */
  readonly user_agent: string | null;
  /** The request header that carries the event type's name. */
  readonly event_header: string;
  readonly signature: {
    /** Whether the Standard Webhooks headers are sent. */
    readonly standard: boolean;
    readonly method: PresetSignatureMethod;
    /** The request header that carries the signature of `method`. */
    readonly header: string;
    /** How the body is spelled that is sent and signed; absent: as published. */
    readonly body_spelling?: 'published' | 'json_stringify';
  };
  readonly retry_policy: PresetRetryPolicy;
  /** How long an endpoint may take to answer; 1..60. */
  readonly timeout_seconds: number;
}

export interface PresetEventType {
  readonly name: string;
  /** The heading under which the catalogue lists the type. */
  readonly group: string;
  readonly description: string;
  /**
   * JSON Schema 2020-12 of the event's `data`, without its envelope. It requires what a receiver cannot do without and
   * allows further properties, so that a publisher may add fields at any time.
   */
  readonly schema: Readonly<Record<string, unknown>>;
  /** A `data` object that satisfies `schema`; sent by a webhook's test when no payload is given. */
  readonly sample: Readonly<Record<string, unknown>>;
}

/**
 * The event types and delivery conventions of one requirement document, as data. What a document leaves open follows
 * `standard`. Choices made where a document names no value:
 * - `whatsapp-crm` prints no payload. It takes `event`, the smallest envelope that keeps the published payload whole
 *   under one key. Its three retries follow the first attempt (waits of 1, 2 and 4 seconds), and doubling goes on up to
 *   300 seconds for a webhook with more.
 * - `isp-framework` asks for three attempts with exponential backoff: waits of 5 and 10 seconds.
 * - `isp-communications` prints a receiver that verifies what `JSON.stringify` makes of the parsed body, so its bodies are
 *   spelled like that (docs/decisions/0022).
 * - `call-center` and `whatsapp-crm` name no signature header: `X-Webhook-Signature`, as in the other documents.
 */
export interface Preset {
  readonly name: PresetName;
  readonly title: string;
  readonly description: string;
  readonly delivery: PresetDelivery;
  readonly event_types: readonly PresetEventType[];
}

/** Every preset by name, `standard` first. Frozen to the last value, because all tenants share these objects. */
export const presets: ReadonlyMap<PresetName, Preset> = new Map(
  [
    // TypeScript widens the literals of a JSON module to `string`; the conformance test checks each file's shape.
    standard as Preset,
    ispCommunications as Preset,
    ispFramework as Preset,
    callCenter as Preset,
    supportAutoresponder as Preset,
    whatsappCrm as Preset,
  ].map((preset) => [preset.name, deepFreeze(preset)]),
);

/** The preset of that name, or undefined for a name that is none; `name` may be any text a caller sent. */
export function findPreset(name: string): Preset | undefined {
  return presets.get(name as PresetName);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const child of Object.values(value)) deepFreeze(child);
    Object.freeze(value);
  }
  return value;
}
