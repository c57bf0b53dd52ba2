import { type Static, Type } from 'typebox';
import type { FieldProblem } from '../kernel/errors.ts';
import type { StoredTemplate } from '../shaping/stored-templates.ts';
import { isJson } from '../shaping/transformation.ts';
import { changeable } from './nullable.ts';

/** Several deliveries of a webhook go in one request. */
export interface Batching {
  readonly maxEvents: number;
  /** How long a delivery waits for others to go with, in milliseconds. */
  readonly maxWaitMs: number;
  /** Of the body, before compression. A single event may have more. */
  readonly maxBytes: number;
}

const fields = {
  enabled: Type.Boolean({
    description:
      'Default false. true: the body is a JSON array of envelopes, or of what `transformation` makes of each event, of ' +
      'one event or more. It is sent when it has ' +
      '`max_events` or `max_bytes`, or when the first of them has waited for `max_wait_ms`.',
  }),
  max_events: Type.Integer({ minimum: 1, maximum: 100, description: 'In a request at most. Default 50.' }),
  max_wait_ms: Type.Integer({ minimum: 0, maximum: 60_000, description: 'Default 1000.' }),
  max_bytes: Type.Integer({
    minimum: 1_024,
    maximum: 4_194_304,
    description: 'Of the body, before compression; an event that has more by itself goes alone. Default 262144.',
  }),
};

/** `batching` in a request: absent leaves a field as it is, null gives its default back. */
export const BatchingInput = Type.Object(changeable(fields), { additionalProperties: false });

/** `batching` in an answer: what is in force. */
export const BatchingShown = Type.Object(fields);
type Shown = Static<typeof BatchingShown>;

/** What a webhook says for itself; as stored in `webhooks.batching`. */
export type BatchingFields = { readonly [K in keyof Shown]?: Shown[K] };

const DEFAULTS: Shown = { enabled: false, max_events: 50, max_wait_ms: 1_000, max_bytes: 262_144 };

/** The batching in force; null: each delivery has a request of its own. */
export function resolveBatching(own: BatchingFields): Batching | null {
  const { enabled, max_events, max_wait_ms, max_bytes } = showBatching(own);
  return enabled ? { maxEvents: max_events, maxWaitMs: max_wait_ms, maxBytes: max_bytes } : null;
}

/** Each event of a batch is an element of an array of JSON, so what makes it has to give JSON. */
export function contentTypeClash(contentType: string): FieldProblem[] {
  if (isJson(contentType)) return [];
  return [
    { path: 'batching.enabled', message: 'does not go with transformation.content_type: a batch is an array of JSON' },
    { path: 'transformation.content_type', message: 'must be one of JSON where "batching" is enabled' },
  ];
}

/** The same of stored templates that a webhook names, which may have headers, too. */
export function storedTemplateClash(templates: readonly StoredTemplate[]): FieldProblem[] {
  const isRefused = ({ content }: StoredTemplate) =>
    !isJson(content.content_type) || Object.keys(content.headers ?? {}).length > 0;
  if (!templates.some(isRefused)) return [];
  const what = 'a content_type that is not JSON, or headers';
  return [
    { path: 'batching.enabled', message: `does not go with transformation.template: that has ${what}` },
    { path: 'transformation.template', message: `names a template with ${what}, which "batching" does not go with` },
  ];
}

/** The batching as the API shows it. */
export function showBatching(own: BatchingFields): Shown {
  return { ...DEFAULTS, ...own };
}
