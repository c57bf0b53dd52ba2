import { fold } from './filtered-event.ts';
import { ExactNumber, type Numeric, numericOf } from './numeric.ts';

/** The value of a filter, read once. */
export type Operand =
  | { kind: 'text'; text: string; folded: string; numeric: Numeric | undefined; timeMs: number | undefined }
  | { kind: 'number'; numeric: Numeric }
  | { kind: 'other'; value: boolean | null };

/** undefined for what is no scalar. */
export function readOperand(value: unknown): Operand | undefined {
  switch (typeof value) {
    case 'string':
      return { kind: 'text', text: value, folded: fold(value), numeric: numericOf(value), timeMs: timeOf(value) };
    case 'number':
      return { kind: 'number', numeric: numericOf(String(value)) ?? value };
    case 'boolean':
      return { kind: 'other', value };
    default:
      return value === null ? { kind: 'other', value } : undefined;
  }
}

/** The number that a value of an event is, or that it spells; undefined for all else. */
export function numericIn(value: unknown): Numeric | undefined {
  if (typeof value === 'number' || value instanceof ExactNumber) return value;
  return typeof value === 'string' ? numericOf(value) : undefined;
}

/** Milliseconds since the epoch of a time in RFC 3339; undefined for other texts, and for days and hours that do not exist. */
export function timeOf(text: string): number | undefined {
  if (text.length > TIME_LENGTH_MAX || !RFC_3339.test(text)) return undefined;
  const ms = Date.parse(text);
  // The 30th of February would be the 1st of March.
  const date = text.slice(0, DATE_LENGTH);
  return Number.isNaN(ms) || !new Date(date).toISOString().startsWith(date) ? undefined : ms;
}

const TIME_LENGTH_MAX = 40;
const DATE_LENGTH = '2026-01-31'.length;
const RFC_3339 = /^\d{4}-\d\d-\d\d[Tt](?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$/;
