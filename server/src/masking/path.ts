import { PATH_LENGTH_MAX } from './rules.ts';

/** One step of a path. */
export type Segment =
  | { kind: 'member'; name: string }
  | { kind: 'element'; index: number }
  /** `[*]`: each element of an array. */
  | { kind: 'elements' }
  /** `*`: each member or element. */
  | { kind: 'any' }
  /** `**`: any number of steps, none included. */
  | { kind: 'deep' };

/** Steps that a path may have. */
const SEGMENTS_MAX = 16;

/**
 * Reads a path: names with dots between them, `[3]`, `[*]`, `*`, `**`, and `["a name"]` as JSON writes it for names that
 * hold one of `.[]*"`. A `$` or `$.` before it is allowed; `$` alone, an empty list of steps, is the value as a whole.
 */
export function parsePath(text: string): { ok: true; segments: Segment[] } | { ok: false; problem: string } {
  if (text.length === 0) return refused('must not be empty');
  if (text.length > PATH_LENGTH_MAX) return refused(`must be at most ${PATH_LENGTH_MAX} characters`);
  if (text === '$') return { ok: true, segments: [] };
  const segments: Segment[] = [];
  let at = text.startsWith('$.') ? 2 : text.startsWith('$[') ? 1 : 0;
  while (at < text.length) {
    STEP.lastIndex = at;
    const match = STEP.exec(text);
    if (match === null) return refused(`cannot be read from character ${at + 1} on`);
    const segment = segmentOf(match);
    if (segment === undefined) return refused(`has a name that is not JSON at character ${at + 1}`);
    segments.push(segment);
    at = STEP.lastIndex;
    if (text[at] === '.') {
      at += 1;
      if (at === text.length || text[at] === '[') return refused('has a dot without a name behind it');
    } else if (at < text.length && text[at] !== '[') {
      return refused(`cannot be read from character ${at + 1} on`);
    }
  }
  if (segments.length > SEGMENTS_MAX) return refused(`must have at most ${SEGMENTS_MAX} steps`);
  if (segments.filter(({ kind }) => kind === 'deep').length > 1) return refused('may have ** only once');
  return { ok: true, segments };
}

const STEP = /\[(\d{1,9}|\*|"(?:[^"\\]|\\.)*")\]|(\*\*|\*|[^.[\]*"]+)/y;

function segmentOf([, bracket, plain]: RegExpExecArray): Segment | undefined {
  if (plain === '**') return { kind: 'deep' };
  if (plain === '*') return { kind: 'any' };
  if (plain !== undefined) return { kind: 'member', name: plain };
  if (bracket === '*') return { kind: 'elements' };
  if (bracket?.[0] !== '"') return { kind: 'element', index: Number(bracket) };
  try {
    return { kind: 'member', name: JSON.parse(bracket) };
  } catch {
    return undefined;
  }
}

function refused(problem: string): { ok: false; problem: string } {
  return { ok: false, problem };
}
