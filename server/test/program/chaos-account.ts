import type { Arrival } from './ledger.ts';

/** What is known of one kill, for the judgement of what came after it. */
export interface Kill {
  beganAtMs: number;
  endedAtMs: number;
  /** A process that sends was killed. When only PostgreSQL was, nothing may come twice. */
  ofSender: boolean;
  /** What was on record just before it. */
  record: ChaosRecord;
}

/** What the database knew at a time. */
export interface ChaosRecord {
  atMs: number;
  /** Names of attempts. */
  attempts: Set<string>;
  /** Names of deliveries that have ended well. */
  delivered: Set<string>;
}

/** An arrival of an attempt that had come before. */
export interface Repeat {
  name: string;
  earlier: Arrival;
  later: Arrival;
  /** The kill that explains it: the attempt had arrived and was not on record; undefined when none does. */
  kill: Kill | undefined;
}

/** From a kill until the requests that the dead process had written are read here. */
const LATE_MS_MAX = 1_000;

export const deliveryName = ({ path, event }: Pick<Arrival, 'path' | 'event'>) => `${path} ${event}`;
export const attemptName = (of: Pick<Arrival, 'path' | 'event' | 'attempt'>) => `${deliveryName(of)}#${of.attempt}`;

export function findRepeats(arrivals: readonly Arrival[], kills: readonly Kill[]): Repeat[] {
  const last = new Map<string, Arrival>();
  const repeats: Repeat[] = [];
  for (const later of arrivals) {
    const name = attemptName(later);
    const earlier = last.get(name);
    last.set(name, later);
    if (earlier === undefined) continue;
    const fitting = kills.filter((each) => liesBetween(each, earlier, later) && !each.record.attempts.has(name));
    // Soon after a kill both it and the next one fit; each explains an attempt once.
    const spent = new Set(repeats.filter((repeat) => repeat.name === name).map((repeat) => repeat.kill));
    const kill = fitting.find((each) => !spent.has(each)) ?? fitting[0];
    repeats.push({ name, earlier, later, kill });
  }
  return repeats;
}

/** The kills that explain more repeats than they may: an attempt twice, or more than were without an answer at once. */
export function overdrawnKills(repeats: readonly Repeat[], kills: readonly Kill[], inFlightMax: number): object[] {
  return kills.flatMap((kill) => {
    const explained = repeats.filter((repeat) => repeat.kill === kill);
    const names = explained.map(({ name }) => name);
    const twice = names.filter((name, at) => names.indexOf(name) !== at);
    const unanswered = explained.filter(({ earlier }) => (earlier.answeredAtMs ?? kill.endedAtMs) >= kill.beganAtMs);
    return twice.length > 0 || unanswered.length > inFlightMax ? [{ kill, twice, unanswered: unanswered.length }] : [];
  });
}

/** What came although its delivery had succeeded before, and no kill explains that the success was forgotten. */
export function sentAfterSuccess(arrivals: readonly Arrival[], kills: readonly Kill[]): Arrival[] {
  const succeeded = new Map<string, Arrival>();
  return arrivals.filter((arrival) => {
    const name = deliveryName(arrival);
    const success = succeeded.get(name);
    if (arrival.status === 200) succeeded.set(name, arrival);
    if (success === undefined) return false;
    const forgotten = kills.some(
      (kill) => liesBetween(kill, success, arrival) && !kill.record.attempts.has(attemptName(success)),
    );
    return success.attempt !== arrival.attempt || !forgotten;
  });
}

/** What came although a success of its delivery had been on record before a kill. */
export function sentAfterRecord(arrivals: readonly Arrival[], kills: readonly Kill[]): Arrival[] {
  return arrivals.filter((arrival) =>
    kills.some(({ record }) => record.atMs < arrival.atMs && record.delivered.has(deliveryName(arrival))),
  );
}

/** An event of a key. Of two that were published at the same time neither has to come first. */
export interface OrderedEvent {
  key: string;
  event: number;
  /** When it was first published. */
  begunAtMs: number;
  /** When its publisher knew that it was accepted; undefined: never. */
  acceptedAtMs: number | undefined;
}

/** Events that came before one of their key, which had been accepted before they were published, was answered with success. */
export function sentOutOfOrder(arrivals: readonly Arrival[], events: readonly OrderedEvent[]): number[] {
  const firstAtMs = new Map<number, number>();
  const succeededAtMs = new Map<number, number>();
  for (const { event, atMs, status, answeredAtMs } of arrivals) {
    if (!firstAtMs.has(event)) firstAtMs.set(event, atMs);
    if (status === 200 && answeredAtMs !== undefined && !succeededAtMs.has(event))
      succeededAtMs.set(event, answeredAtMs);
  }
  const atMs = (times: Map<number, number>, event: number) => times.get(event) ?? Number.POSITIVE_INFINITY;
  return events
    .filter((later) =>
      events.some(
        (earlier) =>
          earlier.key === later.key &&
          earlier.acceptedAtMs !== undefined &&
          earlier.acceptedAtMs < later.begunAtMs &&
          atMs(firstAtMs, later.event) < atMs(succeededAtMs, earlier.event),
      ),
    )
    .map(({ event }) => event);
}

/** What came while another request to the same receiver was under way, and its sender had not been killed. */
export function sentAtOnce(arrivals: readonly Arrival[], kills: readonly Kill[]): [Arrival, Arrival][] {
  return arrivals.flatMap((later, at): [Arrival, Arrival][] => {
    const earlier = arrivals[at - 1];
    if (earlier === undefined || (earlier.answeredAtMs ?? Number.POSITIVE_INFINITY) <= later.atMs) return [];
    return kills.some((kill) => liesBetween(kill, earlier, later)) ? [] : [[earlier, later]];
  });
}

/** What was sent before it and what was sent after it are of different lives of a sender. */
function liesBetween({ ofSender, beganAtMs, endedAtMs }: Kill, earlier: Arrival, later: Arrival): boolean {
  return ofSender && earlier.atMs <= endedAtMs + LATE_MS_MAX && later.atMs >= beganAtMs;
}
