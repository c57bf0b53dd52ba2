import { type TSchema, Type } from 'typebox';
import { decodeCursor, encodeCursor } from '../kernel/cursor.ts';

/** Query parameters of every list. Lists run from the newest to the oldest. */
export const PageQuery = {
  limit: Type.Integer({ minimum: 1, maximum: 250, default: 50, description: 'Rows a page.' }),
  cursor: Type.Optional(Type.String({ maxLength: 64, description: '`next_cursor` of the page before.' })),
};

/** The answer of every list. */
export function PageOf<T extends TSchema>(row: T) {
  return Type.Object({
    data: Type.Array(row),
    next_cursor: Type.Union([Type.String(), Type.Null()]),
    has_more: Type.Boolean(),
  });
}

/** A list that has all of its rows on one page. */
export function onlyPage<Row>(data: Row[]) {
  return { data, next_cursor: null, has_more: false };
}

export interface PageRequest {
  limit: number;
  /** Only rows with an id smaller than this. */
  beforeId: string | undefined;
  /** Rows to leave out at the beginning; absent: none. Only lists that a requirement document pages so heed it. */
  skip?: number;
}

/**
 * Reads where a page begins. `skip` is a number on the paths whose schema has it. On all others it is the text that the
 * caller sent, and left aside like every parameter that a path does not know.
 *
 * @throws AppError 400 for a cursor that this API did not give.
 */
export function readPage(query: { limit: number; cursor?: string | undefined; skip?: unknown }): PageRequest {
  const { limit, cursor, skip } = query;
  const beforeId = cursor === undefined ? undefined : decodeCursor(cursor);
  return { limit, beforeId, ...(typeof skip === 'number' && { skip }) };
}

/**
 * Makes a page out of rows that were asked for with `limit + 1`: the one too many says that there is more.
 *
 * `idOf` gives the UUID by which the rows are ordered.
 */
export function toPage<Row, Shown>(rows: Row[], limit: number, idOf: (row: Row) => string, show: (row: Row) => Shown) {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const hasMore = rows.length > limit;
  return {
    data: shown.map(show),
    next_cursor: hasMore && last !== undefined ? encodeCursor(idOf(last)) : null,
    has_more: hasMore,
  };
}
