import type { Arrival, Ledger } from './ledger.ts';

/** Webhooks that get every event: one that succeeds, one that often fails at first, and one that is slow. */
const UNLIMITED = ['/good', '/flaky', '/slow'];

/** Those that get every fourth, as they take one at a time: one keeps an order in each key, one does so for all. */
const LIMITED = ['/ordered', '/one'];

export const EVENT_TYPE = 'chaos.published';
const LIMITED_EVENT_TYPE = 'chaos.limited';

/** On average: one receiver is asked twice, and one now and then. */
export const REQUESTS_PER_EVENT = 4.6;

/** The receivers' paths that an event is sent to. */
export const pathsOf = (event: number) => (isLimited(event) ? [...UNLIMITED, ...LIMITED] : UNLIMITED);

const isLimited = (event: number) => event % 4 === 0;

/** What an event has besides its number. */
export function fieldsOf(event: number): object {
  return isLimited(event) ? { event_type: LIMITED_EVENT_TYPE, ordering_key: `key-${(event / 4) % 5}` } : {};
}

/** The webhooks, named after their receivers' paths, as the API takes them. */
export function webhooksAt(ledgerUrl: string): object[] {
  return [...UNLIMITED, ...LIMITED].map((path) => ({
    name: path,
    url: ledgerUrl + path,
    events: UNLIMITED.includes(path) ? [EVENT_TYPE, LIMITED_EVENT_TYPE] : [LIMITED_EVENT_TYPE],
    retry_policy: { schedule_seconds: Array(9).fill(0), jitter: 0 },
    // Every second request to the one that often fails does so, and none shall wait for it to get better.
    circuit_breaker: { enabled: false },
    ...(path === '/ordered' && { ordering: { enabled: true } }),
    ...(path === '/one' && { max_concurrency: 1 }),
  }));
}

/** How the receivers answer. */
export function answerOf({
  path,
  event,
  attempt,
}: Pick<Arrival, 'path' | 'event' | 'attempt'>): ReturnType<Ledger['onArrival']> {
  return {
    status: attempt <= failuresOf(path, event) ? 503 : 200,
    afterMs: path === '/slow' ? 60 + (event % 5) * 20 : path === '/one' ? 15 : 5,
  };
}

/** How many attempts fail first. */
function failuresOf(path: string, event: number): number {
  if (path === '/flaky') return event % 3;
  return path === '/ordered' && event % 3 === 0 ? 1 : 0;
}
