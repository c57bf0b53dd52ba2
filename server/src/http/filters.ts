import { Type } from 'typebox';
import { invalidField } from '../kernel/errors.ts';

/** A text that a list is filtered by. PostgreSQL takes no NUL in a text, so none can be found by one. */
export function filterText(description?: string) {
  const rules = { minLength: 1, maxLength: 256, pattern: '^[^\\u0000]*$' };
  return Type.Optional(Type.String({ ...rules, ...(description !== undefined && { description }) }));
}

/**
 * Reads `since` and `until` of a list, in milliseconds. RFC 3339 allows what a Date cannot hold, such as a leap second.
 *
 * @throws AppError 422
 */
export function readTimeFilter(query: { since?: string | null; until?: string | null }): {
  sinceMs: number | undefined;
  untilMs: number | undefined;
} {
  return { sinceMs: timeOf(query.since, 'since'), untilMs: timeOf(query.until, 'until') };
}

function timeOf(text: string | null | undefined, path: string): number | undefined {
  if (text == null) return undefined;
  const timeMs = Date.parse(text);
  if (Number.isNaN(timeMs)) throw invalidField(path, 'must be a time that exists');
  return timeMs;
}
