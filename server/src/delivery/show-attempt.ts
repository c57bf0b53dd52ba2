import { setImmediate } from 'node:timers/promises';
import { formatId, timeOfId } from '../kernel/ids.ts';
import { type HiddenValues, NOTHING_HIDDEN } from '../masking/hidden-values.ts';
import type { Masker } from '../masking/masker.ts';
import { shapeNamedForm } from '../shaping/body-form.ts';
import { attributeHeaderValue } from '../shaping/cloud-event.ts';
import { CLOUD_EVENT_HEADER_PREFIX, type ShapedBody } from '../shaping/envelopes.ts';
import { pairs } from '../webhooks/headers.ts';
import type { AttemptRow } from './queries.ts';
import { EVENT_SOURCE } from './rows.ts';
import { type AttemptShown, shownIds } from './shown.ts';

/** `bodyCharactersMax` cuts the bodies shown; what was sent and kept is not touched. */
export function showAttempt(row: AttemptRow, bodyCharactersMax: number, masker: Masker): AttemptShown {
  const hidden = masker.reveals ? NOTHING_HIDDEN : masker.hiddenIn([textOf(row.data), textOf(row.metadata)]);
  const show = (text: string | null, kind: 'sent' | 'answered', keptCut: boolean) =>
    text === null
      ? { text: null, cut: keptCut }
      : // What was sent has the event's values at their places.
        masker.body(text, { kind, charactersMax: bodyCharactersMax, keptCut, ...(kind === 'answered' && { hidden }) });
  const envelope = envelopeOf(row);
  // A template puts the event's values at other places, as a receiver's answer does.
  const request = show(requestBodyOf(row, envelope), row.request_body === null ? 'sent' : 'answered', false);
  const response = show(textOf(row.response_body), 'answered', row.response_truncated);
  const headers = (text: string) => masker.headers(JSON.parse(text), hidden);
  const requestHeaders = { ...headers(row.request_headers), ...envelopeHeaders(row, envelope, masker, hidden) };
  return {
    id: formatId('attempt', row.id),
    delivery_id: formatId('delivery', row.delivery_id),
    ...shownIds(row),
    tenant_id: formatId('tenant', row.tenant_id),
    number: row.number,
    attempt_count: row.number,
    trigger: row.trigger as AttemptShown['trigger'],
    is_success: row.error_class === null,
    url: masker.text(row.url, hidden),
    http_method: row.http_method,
    template_id: row.template_id === null ? null : formatId('template', row.template_id),
    template_version: row.template_version,
    request_headers: requestHeaders,
    request_body: request.text,
    payload: request.text,
    request_truncated: request.cut || Number(requestHeaders['x-webhook-batch-size'] ?? 1) > 1,
    response_status: row.response_status,
    response_headers: row.response_headers === null ? null : headers(row.response_headers),
    response_body: response.text,
    response_truncated: row.response_truncated || response.cut,
    response_time_ms: row.duration_ms,
    error_class: row.error_class as AttemptShown['error_class'],
    error_message: row.error_message === null ? null : masker.text(row.error_message, hidden),
    created_at: new Date(timeOfId(row.id)).toISOString(),
  };
}

/** Attempts masked without a pause: about 5 ms of work where bodies have 10 KB. */
const SHOWN_AT_ONCE = 5;

/** Many of them, with pauses in which others have their turn: masking costs up to 2 ms an attempt of 10 KB. */
export async function showAttempts(
  rows: readonly AttemptRow[],
  bodyCharactersMax: number,
  masker: Masker,
): Promise<AttemptShown[]> {
  const shown: AttemptShown[] = [];
  for (const [at, row] of rows.entries()) {
    if (!masker.reveals && at > 0 && at % SHOWN_AT_ONCE === 0) await setImmediate();
    shown.push(showAttempt(row, bodyCharactersMax, masker));
  }
  return shown;
}

function textOf(bytes: Buffer | null): string | null {
  return bytes?.toString('utf8') ?? null;
}

/** The body as it was sent, before compression, or this delivery's part of a batch: what a template made is stored. */
function requestBodyOf(row: AttemptRow, envelope: ShapedBody | undefined): string | null {
  if (row.data === null || row.occurred_at === null) return null;
  if (row.request_body !== null) return row.request_body.toString('utf8');
  // Nothing was sent where the template failed.
  if (row.error_class === 'template') return null;
  return row.http_method === 'GET' ? '' : (envelope?.body.toString('utf8') ?? null);
}

/** The envelope of the attempt around the event's bytes, which are stored once for all attempts; undefined: it had none. */
function envelopeOf(row: AttemptRow): ShapedBody | undefined {
  if (row.data === null || row.occurred_at === null || row.request_body !== null) return undefined;
  if (row.error_class === 'template') return undefined;
  const id = formatId('event', row.event_id);
  const event = {
    id,
    publicId: row.external_id ?? id,
    type: row.event_type,
    timestamp: row.occurred_at.toISOString(),
    data: row.data,
    metadata: row.metadata,
    source: EVENT_SOURCE,
  };
  return shapeNamedForm(row.envelope, event, row.number);
}

const NO_REQUEST = '{}';

/** The headers that the envelope gave the request, as `prepareRequest` did. */
function envelopeHeaders(
  row: AttemptRow,
  envelope: ShapedBody | undefined,
  masker: Masker,
  hidden: HiddenValues,
): Record<string, string> {
  if (envelope?.headers === undefined || row.request_headers === NO_REQUEST) return {};
  const type = row.http_method === 'GET' ? [] : ['content-type', envelope.contentType];
  const sent = pairs([...envelope.headers, ...type]);
  if (masker.reveals) return Object.fromEntries(sent);
  return masker.headers(
    Object.fromEntries(sent.map(([name, value]) => [name, maskAttribute(name, value, masker)])),
    hidden,
  );
}

/** As the member of the metadata that it was: by its place, its name, and what it says before it is percent-encoded. */
function maskAttribute(header: string, value: string, masker: Masker): string {
  const isType = header === 'content-type';
  const text = isType ? value : decodeURIComponent(value);
  const name = isType ? 'datacontenttype' : header.slice(CLOUD_EVENT_HEADER_PREFIX.length);
  const masked = JSON.parse(masker.json(JSON.stringify({ [name]: text })));
  const shown = typeof masked === 'string' ? masked : masked[name];
  return shown === text ? value : attributeHeaderValue(shown);
}
