import { Type } from 'typebox';
import { readTimeFilter } from '../http/filters.ts';
import { invalidField } from '../kernel/errors.ts';
import { isSameScalar, scalarsAt } from '../kernel/json-values.ts';
import type { RawJson } from '../kernel/raw-json.ts';

/** Whose data is meant: everyone whose events have this value at this path, made in this time. */
export interface Subject {
  path: readonly string[];
  /** The JSON text of the value. */
  value: string;
  sinceMs: number | undefined;
  /** Never later than the request. */
  untilMs: number;
}

const PATH_LENGTH_MAX = 512;
const SEGMENTS_MAX = 32;
const VALUE_LENGTH_MAX = 1_024;

export const SubjectBody = Type.Object(
  {
    path: Type.String({
      minLength: 1,
      maxLength: PATH_LENGTH_MAX,
      description:
        'Where the value is in the data of events, e.g. `customer.email`. Of an array on the way, or at the end, any ' +
        'element counts.',
    }),
    value: Type.Union([Type.String({ minLength: 1, maxLength: VALUE_LENGTH_MAX }), Type.Number(), Type.Boolean()], {
      description: 'The same value in another spelling is found too: escapes, `1.0` and `1`. Capital letters count.',
    }),
    since: Type.Optional(Type.String({ format: 'date-time', description: 'Events made at this time or later.' })),
    until: Type.Optional(
      Type.String({ format: 'date-time', description: 'Events made before this time; now at the latest.' }),
    ),
  },
  { additionalProperties: false },
);

/** @throws AppError 422 for a path without names, and for a range without room. */
export function readSubject(
  body: { path: string; since?: string; until?: string },
  raw: RawJson | undefined,
  nowMs: number,
): Subject {
  const path = body.path.split('.');
  if (path.includes('')) throw invalidField('path', 'must be names with single dots between them');
  if (path.length > SEGMENTS_MAX) throw invalidField('path', `must have at most ${SEGMENTS_MAX} names`);
  // PostgreSQL holds neither NUL nor half of a surrogate pair in a text, and no stored name has one.
  if (body.path.includes('\0') || !body.path.isWellFormed()) throw invalidField('path', 'must be plain text');
  const { sinceMs, untilMs = nowMs } = readTimeFilter(body);
  if (sinceMs !== undefined && sinceMs >= Math.min(untilMs, nowMs)) {
    throw invalidField('since', sinceMs >= nowMs ? 'must be in the past' : 'must be before `until`');
  }
  const value = raw?.member('value')?.toString('utf8') ?? '';
  if (value.length > VALUE_LENGTH_MAX * 6 + 2) throw invalidField('value', 'is too long');
  return {
    path,
    value,
    sinceMs: sinceMs === undefined ? undefined : Math.max(0, sinceMs),
    untilMs: Math.max(0, Math.min(untilMs, nowMs)),
  };
}

/** Whether a JSON text is about the subject. */
export function isAbout(text: string, { path, value }: Pick<Subject, 'path' | 'value'>): boolean {
  return scalarsAt(text, path).some((scalar) => isSameScalar(scalar, value));
}

/** A shorter text occurs in too many others to say anything. */
const TELLING_LENGTH_MIN = 4;

/** The value as it would stand in a text such as a key; undefined when it could stand there by chance. */
export function tellingText({ value }: Pick<Subject, 'value'>): string | undefined {
  const parsed: unknown = JSON.parse(value);
  const text = typeof parsed === 'string' ? parsed : value;
  const fits = typeof parsed !== 'boolean' && text.length >= TELLING_LENGTH_MIN && !text.includes('\0');
  return fits && text.isWellFormed() ? text : undefined;
}
