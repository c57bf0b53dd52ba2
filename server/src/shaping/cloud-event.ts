/** The value of a CloudEvents attribute: its types that are no text in JSON are written as texts there too. */
export type AttributeValue = string | number | boolean;

/** What Posthorn itself says of an event that was published as a CloudEvent. */
export interface CloudEventIdentity {
  publicId: string;
  type: string;
  /** RFC 3339. */
  timestamp: string;
}

/**
 * The attributes of an event that was published as a CloudEvent, in the order in which they are sent, `id`, `type` and
 * `time` included; undefined for all other events. Its publisher's attributes are the event's metadata, and
 * `specversion` among them says so, wherever they come from: metadata that says `specversion` and is not a CloudEvent's
 * in all its members is none at all.
 *
 * It costs a look at a field where there is no metadata, 0.2 us for 300 bytes of other metadata, and 4 us for a CloudEvent.
 */
export function publishedAttributes(
  metadata: Buffer | null,
  { publicId, type, timestamp }: CloudEventIdentity,
): [name: string, value: AttributeValue][] | undefined {
  if (metadata === null || !metadata.includes(SPECVERSION)) return undefined;
  const { specversion, source, time, datacontenttype = JSON_TYPE, ...others } = JSON.parse(metadata.toString('utf8'));
  const core = { specversion, source, datacontenttype };
  const members = Object.entries({ ...core, ...others });
  if (!members.every(([name, value]) => !ELSEWHERE.has(name) && attributeProblem(name, value) === undefined)) {
    return undefined;
  }
  const isSameTime = typeof time === 'string' && TIME.test(time) && Date.parse(time) === Date.parse(timestamp);
  return [
    ...Object.entries({
      specversion,
      id: publicId,
      source,
      type,
      time: isSameTime ? time : timestamp,
      datacontenttype,
    }),
    ...Object.entries(others as Record<string, AttributeValue>),
  ];
}

const SPECVERSION = '"specversion"';
/** As its publisher spelled it, down to the nanosecond. */
const TIME = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,20})?(?:[Zz]|[+-]\d\d:\d\d)$/;
/** Attributes that no metadata holds: the event has them itself. */
const ELSEWHERE = new Set(['id', 'type', 'data']);

/** What `datacontenttype` is where it is not said (JSON event format, section 2.4). */
export const JSON_TYPE = 'application/json';

/** Why a value cannot be that of the attribute; of all attributes but `id`, `type` and `time`. CloudEvents 1.0.2. */
export function attributeProblem(name: string, value: unknown): string | undefined {
  switch (name) {
    case 'specversion':
      return value === '1.0' ? undefined : 'must be "1.0"';
    case 'source':
      return typeof value === 'string' && value !== '' && isUriReference(value)
        ? undefined
        : 'must be a URI reference, such as /orders or https://shop.example.com/orders';
    case 'dataschema':
      return typeof value === 'string' && SCHEME.test(value) && isUriReference(value)
        ? undefined
        : 'must be a URI, such as https://shop.example.com/order.json';
    case 'subject':
      return typeof value === 'string' && value !== '' ? charactersProblem(value) : 'must be a text that is not empty';
    case 'datacontenttype':
      return typeof value === 'string' && isJsonInUtf8(value)
        ? undefined
        : 'must be JSON in UTF-8, such as application/json: no other data is taken';
    default:
      return extensionProblem(name, value);
  }
}

/** "Naming Conventions" and "Type System". */
function extensionProblem(name: string, value: unknown): string | undefined {
  if (!/^[a-z0-9]+$/.test(name)) return 'is no name of an attribute: these have lower-case letters and digits';
  if (typeof value === 'string') return charactersProblem(value);
  const isInteger = typeof value === 'number' && value === (value | 0);
  if (typeof value === 'boolean' || isInteger) return undefined;
  return 'must be a text, true, false, or an integer of 32 bits';
}

function charactersProblem(text: string): string | undefined {
  return NO_CHARACTER.test(text)
    ? 'must have no control characters, and no code points that are no characters'
    : undefined;
}

const NO_CHARACTER = /[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/u;

function isUriReference(text: string): boolean {
  return text.length <= URI_LENGTH_MAX && URI_REFERENCE.test(text);
}

/** As for the formats of JSON Schema: RFC 9110 asks servers to take so much. */
const URI_LENGTH_MAX = 8_192;

/** RFC 3986, section 4.1; linear. The first segment of a path without a scheme has no colon (section 4.2). */
const URI_REFERENCE = (() => {
  const escaped = '%[0-9A-Fa-f]{2}';
  const character = "[\\w.~!$&'()*+,;=:@-]";
  const authority = `(?://(?:${character}|${escaped}|\\[[0-9A-Fa-fv.:]+\\])*(?=[/?#]|$))?`;
  const behind = `(?:${character}|[/?]|${escaped})*`;
  return new RegExp(
    `^(?:[A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#]*:))${authority}(?:${character}|/|${escaped})*(?:\\?${behind})?(?:#${behind})?$`,
  );
})();
const SCHEME = /^[A-Za-z][A-Za-z0-9+.-]*:/;

/** RFC 9110, section 8.3.1. What is published is UTF-8, so no other charset is true of it. */
function isJsonInUtf8(text: string): boolean {
  if (text.length > MEDIA_TYPE_LENGTH_MAX || !JSON_MEDIA_TYPE.test(text)) return false;
  return [...text.matchAll(/;[ \t]*charset="?([^";]*)/gi)].every(
    ([, charset]) => charset?.trim().toLowerCase() === 'utf-8',
  );
}

const MEDIA_TYPE_LENGTH_MAX = 256;
const JSON_MEDIA_TYPE = (() => {
  const token = "[\\w!#$%&'*+.^`|~-]+";
  const quoted = '"(?:[\\x20\\x21\\x23-\\x5b\\x5d-\\x7e]|\\\\[\\x20-\\x7e])*"';
  const subtype = '(?:[\\w!#$&^.+-]{1,127}\\+)?json';
  return new RegExp(
    `^[\\w!#$&^.+-]{1,127}/${subtype}(?:[ \\t]*;[ \\t]*${token}=(?:${token}|${quoted}))*[ \\t]*;?$`,
    'i',
  );
})();

/**
 * The value of a `ce-` header: HTTP protocol binding, section 3.1.3.2. It is printable ASCII without spaces whatever the
 * text is, so that no line can end in it.
 */
export function attributeHeaderValue(value: AttributeValue): string {
  return String(value).replaceAll(/[^\x21\x23\x24\x26-\x7e]+/g, (run) => encodeURIComponent(run));
}
