import { eventually } from '../../src/testing/eventually.ts';
import { OPERATOR_KEY } from './server.ts';

/** Publishes numbered events, `data: {n}`, while the program comes and goes. */
export interface Publishing {
  /** Numbers of the events that were answered with 202. */
  accepted: Set<number>;
  /** Numbers of the events that were sent. */
  sent: Set<number>;
  /** Publishes `count` more, several at once; resolves when each was answered or given up. */
  burst(count: number): Promise<void>;
}

export interface PublishingOptions {
  eventType: string;
  /** Where the program is at the moment. */
  url: () => string;
}

const PUBLISHERS = 8;

/**
 * Even numbers are published under an `event_id` of their own, again and again until they are accepted, as a careful
 * application does it; odd ones without, once.
 */
export function createPublishing({ eventType, url }: PublishingOptions): Publishing {
  const accepted = new Set<number>();
  const sent = new Set<number>();

  async function publish(n: number): Promise<boolean> {
    const body = { event_type: eventType, data: { n }, ...(n % 2 === 0 && { event_id: `${eventType}-${n}` }) };
    sent.add(n);
    const status = await statusOf(`${url()}/api/v1/events`, {
      method: 'POST',
      headers: { authorization: `Bearer ${OPERATOR_KEY}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (status === 202) accepted.add(n);
    return status === 202;
  }

  async function publishUntilGivenUp(n: number): Promise<void> {
    while (!(await publish(n))) {
      await eventually(
        () => statusOf(`${url()}/health/ready`),
        (status) => status === 200,
        60_000,
      );
      if (n % 2 === 1) return;
    }
  }

  return {
    accepted,
    sent,
    async burst(count) {
      let next = sent.size;
      const end = next + count;
      const work = async () => {
        while (next < end) await publishUntilGivenUp(next++);
      };
      await Promise.all(Array.from({ length: PUBLISHERS }, work));
    },
  };
}

/** undefined: there was no answer. */
async function statusOf(url: string, request?: RequestInit): Promise<number | undefined> {
  try {
    const response = await fetch(url, request);
    await response.arrayBuffer();
    return response.status;
  } catch {
    return undefined;
  }
}
