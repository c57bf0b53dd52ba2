import type { IncomingHttpHeaders } from 'node:http';
import { EVENT_TYPE_NAME_RULE, isEventTypeName } from '../catalog/event-type-name.ts';
import { type FieldProblem, invalidField, invalidFields } from '../kernel/errors.ts';
import type { RawJson } from '../kernel/raw-json.ts';
import { timeOf } from '../routing/filters/operand.ts';
import { attributeProblem, JSON_TYPE } from '../shaping/cloud-event.ts';

/**
 * Writes a CloudEvent 1.0 of the JSON event format as the plain publish that it stands for, so that all else is said of
 * that one: `id` is its `event_id`, `type` its `event_type`, `time` its `timestamp`, and every attribute but `id` and
 * `type` a member of its metadata. That says `specversion` then, by which `publishedAttributes` knows what to send on.
 * Data keeps its bytes; an event without data has `null`. The text is the same however the attributes are ordered.
 *
 * `at` stands before the names of attributes in problems.
 *
 * @throws AppError 422 naming every attribute that is wrong.
 */
export function publishOfStructured(raw: RawJson, at = ''): Buffer {
  const { value } = raw;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidField(at === '' ? 'body' : at.slice(0, -1), 'must be a CloudEvent, an object');
  }
  const attributes = new Map<string, unknown>();
  for (const [name, each] of Object.entries(value)) {
    // JSON event format, section 2.2: null is the same as absent.
    if (name !== 'data' && name !== 'data_base64' && each !== null) attributes.set(name, each);
  }
  const members = value as Record<string, unknown>;
  if (members.data_base64 == null) return written(attributes, raw.member('data'), at);
  if (Object.hasOwn(members, 'data')) throw invalidField(`${at}data_base64`, 'does not go with data: give one of them');
  return written(attributes, decoded(members.data_base64, `${at}data_base64`), at);
}

/**
 * The same for a CloudEvent of the binary mode (HTTP protocol binding, section 3.1): the attributes are the headers that
 * begin with `ce-`, and the body is the data, of which `Content-Type` says what it is. All attributes are texts then.
 *
 * @throws AppError 422 naming every header that is wrong.
 */
export function publishOfBinary(headers: IncomingHttpHeaders, data: Buffer | undefined): Buffer {
  const attributes = new Map<string, unknown>();
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(HEADER_PREFIX)) attributes.set(name.slice(HEADER_PREFIX.length), headerText(name, value));
  }
  const contentType = headers['content-type'];
  if (contentType !== undefined && !PLAIN_JSON.test(contentType)) {
    const message = attributeProblem('datacontenttype', contentType);
    if (message !== undefined) throw invalidField('content-type', message);
    attributes.set('datacontenttype', contentType);
  }
  return written(attributes, data, HEADER_PREFIX);
}

const HEADER_PREFIX = 'ce-';

/** As most clients write it. It says no more than `application/json`. */
const PLAIN_JSON = /^application\/json[ \t]*(?:;[ \t]*charset="?utf-8"?[ \t]*)?;?$/i;

function written(attributes: Map<string, unknown>, data: Buffer | undefined, at: string): Buffer {
  const problems = [...attributes].flatMap(([name, value]): FieldProblem[] => {
    const message = problemOf(name, value);
    return message === undefined ? [] : [{ path: at + name, message }];
  });
  for (const name of REQUIRED) if (!attributes.has(name)) problems.push({ path: at + name, message: 'is required' });
  if (problems.length > 0) throw invalidFields(problems);
  if (attributes.get('datacontenttype') === JSON_TYPE) attributes.delete('datacontenttype');
  const metadata = [...attributes.keys()].filter((name) => !OUTSIDE_METADATA.has(name)).sort();
  const json = (name: string) => JSON.stringify(attributes.get(name));
  const head =
    `{"event_type":${json('type')},"event_id":${json('id')}` +
    (attributes.has('time') ? `,"timestamp":${json('time')}` : '') +
    `,"metadata":{${metadata.map((name) => `"${name}":${json(name)}`).join(',')}},"data":`;
  return Buffer.concat([Buffer.from(head), data ?? NULL, Buffer.from('}')]);
}

const REQUIRED = ['specversion', 'id', 'source', 'type'];
const OUTSIDE_METADATA = new Set(['id', 'type']);
const NULL = Buffer.from('null');

function problemOf(name: string, value: unknown): string | undefined {
  switch (name) {
    case 'id':
      if (typeof value === 'string' && EVENT_ID.test(value)) return undefined;
      return 'must be 1 to 256 visible ASCII characters: it is the event_id';
    case 'type':
      return typeof value === 'string' && isEventTypeName(value) ? undefined : EVENT_TYPE_NAME_RULE;
    case 'time':
      if (typeof value === 'string' && timeOf(value) !== undefined) return undefined;
      return 'must be a time that exists, such as 2026-01-31T12:00:00Z';
    case 'data':
      return 'is no attribute: the data is the body';
    default:
      return attributeProblem(name, value);
  }
}

const EVENT_ID = /^[\x21-\x7e]{1,256}$/;

/** Data that is JSON all the same. Whether it is, is found when the publish is read. */
function decoded(base64: unknown, path: string): Buffer {
  if (typeof base64 === 'string' && BASE64.test(base64) && base64.length % 4 === 0) {
    const data = Buffer.from(base64, 'base64');
    if (isJson(data)) return data;
  }
  throw invalidField(path, 'must be the Base64 of JSON: no other data is taken');
}

const BASE64 = /^[0-9A-Za-z+/]+={0,2}$/;

function isJson(data: Buffer): boolean {
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data));
    return true;
  } catch {
    return false;
  }
}

/** HTTP protocol binding, section 3.1.3.2: quotes around a value go, and `%C3%BC` is `ü`. */
function headerText(name: string, value: string | string[] | undefined): string {
  const text = String(value).replace(/^"(.*)"$/, (_, quoted: string) => quoted.replaceAll(/\\(.)/g, '$1'));
  if (!/^[\x20-\x7e]*$/.test(text))
    throw invalidField(name, 'must be printable ASCII: other characters are percent-encoded');
  try {
    return text.replaceAll(/(?:%[0-9A-Fa-f]{2})+/g, (run) => decodeURIComponent(run));
  } catch {
    throw invalidField(name, 'has percent-encoded bytes that are not UTF-8');
  }
}
