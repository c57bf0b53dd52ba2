import { Type } from 'typebox';
import type { Database } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';
import { PageQuery } from '../http/pagination.ts';
import { malformed } from '../kernel/errors.ts';
import { isEventTypeName } from './event-type-name.ts';
import { type EventTypeRow, listEventTypes } from './queries.ts';

/** PostgreSQL takes no NUL in a text, nor does any row hold one. */
const filter = (description: string) =>
  Type.Optional(Type.String({ maxLength: 128, pattern: '^[^\\u0000]*$', description }));

/** Query parameters of the lists of event types, which run by name from A to Z. */
export const EventTypeQuery = {
  limit: PageQuery.limit,
  cursor: Type.Optional(Type.String({ maxLength: 200, description: '`next_cursor` of the page before.' })),
  group: filter('Only this group.'),
  q: filter('Part of the name or of the description, in capitals or not.'),
};

export interface EventTypePageRequest {
  limit: number;
  cursor?: string | undefined;
  group?: string | undefined;
  preset?: string | undefined;
  q?: string | undefined;
}

/**
 * The JSON text of one page, each row as `show` writes it. The cursor is the last name, because names are what the list
 * is ordered by.
 *
 * @throws AppError 400 for a cursor that this API did not give
 */
export async function eventTypePage(
  db: Database,
  scope: Scope,
  { limit, cursor, ...filters }: EventTypePageRequest,
  show: (row: EventTypeRow) => string,
): Promise<string> {
  const afterName = cursor === undefined ? undefined : decodeNameCursor(cursor);
  const rows = await listEventTypes(db, scope, { ...filters, afterName, limit });
  const shown = rows.slice(0, limit);
  const hasMore = rows.length > limit;
  const last = shown.at(-1);
  const next = hasMore && last !== undefined ? encodeNameCursor(last.name) : null;
  return `{"data":[${shown.map(show).join(',')}],"next_cursor":${JSON.stringify(next)},"has_more":${hasMore}}`;
}

function encodeNameCursor(name: string): string {
  return Buffer.from(name).toString('base64url');
}

function decodeNameCursor(cursor: string): string {
  const name = Buffer.from(cursor, 'base64url').toString();
  if (isEventTypeName(name) && encodeNameCursor(name) === cursor) return name;
  throw malformed('The cursor is not one that this API gave; start again without it.', 'invalid_cursor');
}
