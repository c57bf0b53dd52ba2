import type { Scope } from '../http/caller.ts';
import type { FieldProblem } from '../kernel/errors.ts';
import type { EventTypeDirectory } from './directory.ts';
import { parseEventPattern } from './event-pattern.ts';
import { didYouMean } from './near-names.ts';

/**
 * What is wrong with the patterns of a subscription, with paths `events.0`, `events.1`…; empty when nothing is.
 *
 * Where unknown types are not allowed, a pattern that can never match is taken for a mistake: a name must be an event
 * type of the environment, and below a prefix there must be one.
 */
export async function checkEventPatterns(
  directory: EventTypeDirectory,
  scope: Scope,
  patterns: readonly string[],
  allowUnknown: boolean,
): Promise<FieldProblem[]> {
  const known = await directory.names(scope);
  return patterns.flatMap((text, at) => {
    const message = problemOf(text, known, allowUnknown);
    return message === undefined ? [] : [{ path: `events.${at}`, message }];
  });
}

function problemOf(text: string, known: ReadonlySet<string>, allowUnknown: boolean): string | undefined {
  const pattern = parseEventPattern(text);
  if (pattern === undefined) {
    return 'must be the name of an event type, * for all, or the beginning of a name with .* such as order.*';
  }
  if (allowUnknown || pattern.kind === 'all') return undefined;
  if (pattern.kind === 'exact') {
    if (known.has(pattern.name)) return undefined;
    return `is not an event type of this environment${didYouMean(pattern.name, known)}`;
  }
  for (const name of known) {
    if (name.startsWith(pattern.prefix)) return undefined;
  }
  return 'matches no event type of this environment';
}
