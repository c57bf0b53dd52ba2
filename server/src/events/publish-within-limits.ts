import type { Grant, Scope } from '../http/caller.ts';
import { AppError } from '../kernel/errors.ts';
import type { PublishRequest } from './publish-request.ts';
import type { PublishResult } from './publisher.ts';

/** Takes events from their tenant's limits. Undefined: nothing limits them. @throws AppError 413, 422, 429. */
export type TakeEvents = (scope: Scope, sizes: readonly number[]) => Grant | undefined | Promise<Grant | undefined>;

/** Bytes of the events' data, as their size is limited. */
export function sizesOf(events: readonly Pick<PublishRequest, 'data'>[]): number[] {
  return events.map(({ data }) => data.length);
}

/** What was published before is no new event. */
export function giveBackDuplicates(grant: Grant | undefined, results: readonly PublishResult[]): void {
  if (grant === undefined) return;
  const duplicates = results.filter(({ duplicate }) => duplicate).length;
  if (duplicates > 0) grant.giveBack(duplicates);
}

/** Of what was refused nothing is stored. After a 503 that is not certain, so the events stay counted. */
export function giveBackRefused(grant: Grant | undefined, error: unknown, count: number): void {
  if (error instanceof AppError && error.status < 500) grant?.giveBack(count);
}

/** The headers of an answer for which two limits were asked: of the one of which less is left. */
export function tightestHeaders(one: Grant | undefined, other: Grant | undefined): Grant['headers'] | undefined {
  if (one === undefined || other === undefined) return (one ?? other)?.headers;
  return one.remaining <= other.remaining ? one.headers : other.headers;
}
