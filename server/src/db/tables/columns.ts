import type { ColumnType } from 'kysely';

/** Read as a Date, written as a Date or an RFC 3339 text. */
export type Timestamp = ColumnType<Date, Date | string, Date | string>;

/** Read as the parsed value, written as JSON text. */
export type Json<T> = ColumnType<T, string, string>;
