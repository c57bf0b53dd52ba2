import type { Clock } from '../kernel/clock.ts';
import type { ApiClient } from './api-client.ts';
import { pause } from './pause.ts';
import { type OutgoingEvent, type PublishAnswer, publishEvent } from './publish-event.ts';

/** Requests without an answer yet. */
const UNDER_WAY_MAX = 100;

export interface StreamOptions {
  client: ApiClient;
  clock: Clock;
  /** What to publish, one after the other; the stream ends after the last one. */
  events: Iterable<OutgoingEvent>;
  perSecond: number;
  /** Ends the stream. */
  signal: AbortSignal;
  /** Called after each event that was accepted. */
  onPublished(answer: PublishAnswer): void;
}

/**
 * Publishes events at an even rate until the signal, and resolves when the last request has its answer.
 * It does not wait for one answer before the next request, and makes up for a late timer.
 *
 * @throws the first failure of a request; the stream ends with it.
 */
export async function streamEvents(options: StreamOptions): Promise<void> {
  const { client, clock, events, perSecond, signal, onPublished } = options;
  const failed = new AbortController();
  const ended = AbortSignal.any([signal, failed.signal]);
  const underWay = new Set<Promise<void>>();
  const startedAtMs = clock.monotonicMs();
  let sent = 0;
  for (const event of events) {
    if (ended.aborted) break;
    const request = publishEvent(client, event).then(onPublished, (error) => failed.abort(error));
    underWay.add(request);
    void request.finally(() => underWay.delete(request));
    sent += 1;
    const nextAtMs = startedAtMs + (sent * 1000) / perSecond;
    await pause(clock, Math.max(0, nextAtMs - clock.monotonicMs()), ended);
    // A server that is slower than the rate is waited for.
    if (underWay.size >= UNDER_WAY_MAX) await Promise.race(underWay);
  }
  await Promise.all(underWay);
  if (failed.signal.aborted) throw failed.signal.reason;
}
