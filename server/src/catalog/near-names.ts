import { distance } from 'fastest-levenshtein';
import { EVENT_TYPE_NAME_LENGTH_MAX } from './event-type-name.ts';

const NEAR_MAX = 3;

/** More are not compared; an environment has at most so many event types. */
const CANDIDATES_MAX = 1_000;

/**
 * Up to three of the candidates that `name` may be a slip of, the nearest first. A third of the characters may be
 * wrong, capitals count for nothing. At worst, with 1,000 candidates of 128 characters, it takes 5 ms.
 */
export function nearNames(name: string, candidates: Iterable<string>): string[] {
  if (name.length > EVENT_TYPE_NAME_LENGTH_MAX) return [];
  const wanted = name.toLowerCase();
  const farthest = Math.max(2, Math.floor(name.length / 3));
  const near: { candidate: string; apart: number }[] = [];
  let compared = 0;
  for (const candidate of candidates) {
    compared += 1;
    if (compared > CANDIDATES_MAX) break;
    if (Math.abs(candidate.length - wanted.length) > farthest) continue;
    const apart = distance(wanted, candidate.toLowerCase());
    if (apart <= farthest) near.push({ candidate, apart });
  }
  near.sort((a, b) => a.apart - b.apart || (a.candidate < b.candidate ? -1 : 1));
  return near.slice(0, NEAR_MAX).map(({ candidate }) => candidate);
}

/** `; did you mean lead.created?`, ready to end a message; empty when nothing is near. */
export function didYouMean(name: string, candidates: Iterable<string>): string {
  const near = nearNames(name, candidates);
  return near.length === 0 ? '' : `; did you mean ${near.join(' or ')}?`;
}
