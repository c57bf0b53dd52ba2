import { setTimeout as pause } from 'node:timers/promises';
import { OPERATOR_KEY } from './server.ts';

/** Publishes numbered events, `data: {n}`, all the time, while the program comes and goes. */
export interface SteadyPublishing {
  /** Numbers of the events that were answered with 202, with the time of that answer, in milliseconds since the epoch. */
  accepted: Map<number, number>;
  /** When each event was first published. */
  begun: Map<number, number>;
  /** How often each answer came; 0 is none at all. */
  answers: Map<number, number>;
  /** Publishes no new events; resolves when those that are repeated were accepted. */
  stop(): Promise<void>;
  /** Ends, whether accepted or not. */
  abandon(): void;
}

const PUBLISHERS = 6;
const BATCH_EVENTS = 5;

/**
 * In turn: an event under an `event_id` of its own and a batch of such events, each repeated until it is accepted, as a
 * careful application does it; and an event without, published once and never again.
 */
export function publishSteadily(options: {
  url: string;
  eventType: string;
  /** Further fields of the event of a number, or others than these. */
  fieldsOf?: (n: number) => object;
  /** Of each publisher, between two requests. */
  pauseMs: number;
  /** false: wait, with so many accepted. */
  mayPublish: (accepted: number) => boolean;
}): SteadyPublishing {
  const { url, eventType, pauseMs, fieldsOf = () => ({}) } = options;
  const accepted = new Map<number, number>();
  const begun = new Map<number, number>();
  const answers = new Map<number, number>();
  let next = 0;
  let stopped = false;
  let abandoned = false;

  const take = (count: number) => Array.from({ length: count }, () => next++);
  const plain = (n: number) => ({ event_type: eventType, data: { n }, ...fieldsOf(n) });
  const keyed = (n: number) => ({ ...plain(n), event_id: `${eventType}-${n}` });

  async function send(path: string, body: unknown, numbers: number[]): Promise<boolean> {
    for (const n of numbers) if (!begun.has(n)) begun.set(n, Date.now());
    const status = await statusOf(`${url}${path}`, body);
    answers.set(status, (answers.get(status) ?? 0) + 1);
    if (status === 202) for (const n of numbers) accepted.set(n, Date.now());
    return status === 202;
  }

  async function repeat(path: string, body: unknown, numbers: number[]): Promise<void> {
    while (!(await send(path, body, numbers)) && !abandoned) await pause(100);
  }

  async function publish(turn: number): Promise<void> {
    switch (turn % 3) {
      case 0: {
        const [n = 0] = take(1);
        return repeat('/api/v1/events', keyed(n), [n]);
      }
      case 1: {
        const numbers = take(BATCH_EVENTS);
        return repeat('/api/v1/events/batch', { events: numbers.map(keyed) }, numbers);
      }
      default: {
        const [n = 0] = take(1);
        await send('/api/v1/events', plain(n), [n]);
      }
    }
  }

  const work = async (publisher: number) => {
    for (let turn = publisher; !stopped; turn++) {
      if (options.mayPublish(accepted.size)) await publish(turn);
      await pause(pauseMs);
    }
  };
  const working = Promise.all(Array.from({ length: PUBLISHERS }, (_, publisher) => work(publisher)));
  return {
    accepted,
    begun,
    answers,
    async stop() {
      stopped = true;
      await working;
    },
    abandon() {
      stopped = true;
      abandoned = true;
    },
  };
}

/** 0: there was no answer. */
async function statusOf(url: string, body: unknown): Promise<number> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { authorization: `Bearer ${OPERATOR_KEY}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(30_000),
    });
    await response.arrayBuffer();
    return response.status;
  } catch {
    return 0;
  }
}
