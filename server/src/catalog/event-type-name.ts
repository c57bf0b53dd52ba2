/** Segments of letters, digits, `_` and `-`, joined by dots: `order.paid`, `network.device.up`. */
export const EVENT_TYPE_NAME_PATTERN = '^[a-zA-Z0-9_-]+(\\.[a-zA-Z0-9_-]+)*$';

export const EVENT_TYPE_NAME_LENGTH_MAX = 128;

/** What a name must be like, as it follows a field's path in a message. */
export const EVENT_TYPE_NAME_RULE = `must be 1 to ${EVENT_TYPE_NAME_LENGTH_MAX} characters: letters, digits, "_" and "-", in segments joined by dots, such as order.paid`;

export function isEventTypeName(text: string): boolean {
  return text.length <= EVENT_TYPE_NAME_LENGTH_MAX && NAME.test(text);
}

/** Names that are paths below `/api/v1/event-types`, where a type so called could not be reached. */
export const RESERVED_NAMES: ReadonlySet<string> = new Set(['presets', 'openapi.json', 'asyncapi.json']);

/** Each segment ends where its dot is, so this takes time in proportion to the text. */
const NAME = new RegExp(EVENT_TYPE_NAME_PATTERN);
