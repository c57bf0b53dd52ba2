import type { Clock } from '../../kernel/clock.ts';
import type { ApiClient } from '../api-client.ts';
import { pause } from '../pause.ts';
import { publishEvent } from '../publish-event.ts';

export interface SampleEvent {
  eventType: string;
  /** JSON text. */
  data: Buffer;
}

export interface StreamOptions {
  client: ApiClient;
  clock: Clock;
  samples: readonly SampleEvent[];
  perSecond: number;
  /** Ends the stream. */
  signal: AbortSignal;
  /** Called after each event that was accepted. */
  onPublished(): void;
}

/**
 * Publishes the samples in turn at an even rate until the signal, and resolves when the last request has its answer.
 * It does not wait for one answer before the next request, and makes up for a late timer.
 *
 * @throws the first failure of a request; the stream ends with it.
 */
export async function streamSamples(options: StreamOptions): Promise<void> {
  const { client, clock, samples, perSecond, signal, onPublished } = options;
  const failed = new AbortController();
  const ended = AbortSignal.any([signal, failed.signal]);
  const underWay = new Set<Promise<void>>();
  const startedAtMs = clock.monotonicMs();
  for (let sent = 0; !ended.aborted; sent += 1) {
    const sample = samples[sent % samples.length];
    if (sample === undefined) throw new Error('There is no sample to publish.');
    const request = publishEvent(client, sample).then(onPublished, (error) => failed.abort(error));
    underWay.add(request);
    void request.finally(() => underWay.delete(request));
    const nextAtMs = startedAtMs + ((sent + 1) * 1000) / perSecond;
    await pause(clock, Math.max(0, nextAtMs - clock.monotonicMs()), ended);
  }
  await Promise.all(underWay);
  if (failed.signal.aborted) throw failed.signal.reason;
}
