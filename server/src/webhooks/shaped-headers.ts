import { ProgramError } from '../shaping/program.ts';
import { HEADERS_MAX, type HeaderList, headerProblem, pairs, SET_BY_POSTHORN } from './headers.ts';

/**
 * The headers that a template or transform made, by their names in lower case: the last of a name counts, and one whose
 * value is empty is left out. `taken`: names in lower case that it must not set.
 *
 * @throws ProgramError for those that cannot be sent.
 */
export function readShapedHeaders(
  given: HeaderList,
  taken: ReadonlySet<string>,
): Map<string, [name: string, value: string]> {
  const made = new Map<string, [string, string]>();
  for (const [name, text] of pairs(given)) {
    const value = text.trim();
    const path = `headers.${name.slice(0, 100)}`;
    const problem = taken.has(name.toLowerCase()) ? SET_BY_POSTHORN : headerProblem(name, value);
    if (problem !== undefined) {
      throw new ProgramError({ kind: 'output', message: `A header cannot be sent: it ${problem}.`, path });
    }
    if (value === '') made.delete(name.toLowerCase());
    else made.set(name.toLowerCase(), [name, value]);
  }
  if (made.size > HEADERS_MAX) {
    throw new ProgramError({ kind: 'limit', message: `There are more than ${HEADERS_MAX} headers.` });
  }
  return made;
}
