import { createHash } from 'node:crypto';
import type { PublishRequest } from './publish-request.ts';

const KEY_LENGTH_MAX = 256;

/** The sequence of events that have no key. */
const NO_KEY = '';

/**
 * The key of an event for a webhook that keeps an order: the value at `keyPath` of its data, else its `ordering_key`,
 * else the one sequence of all events without a key. A value that is no text counts as its JSON; one that is longer than
 * a key may be counts as its hash, so that different values stay different.
 */
export function orderingKeyOf(
  request: Pick<PublishRequest, 'dataValue' | 'orderingKey'>,
  keyPath: readonly string[] | null,
): string {
  const found = keyPath === null ? undefined : valueAt(request.dataValue, keyPath);
  if (found === undefined || found === null) return request.orderingKey ?? NO_KEY;
  const text = typeof found === 'string' ? found : JSON.stringify(found);
  // PostgreSQL holds neither NUL nor half of a surrogate pair in a text.
  if (text.length <= KEY_LENGTH_MAX && !text.includes('\0') && text.isWellFormed()) return text;
  return `sha256:${createHash('sha256').update(text, 'utf16le').digest('hex')}`;
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  let at = value;
  for (const segment of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, segment)) return undefined;
    at = (at as Record<string, unknown>)[segment];
  }
  return at;
}
