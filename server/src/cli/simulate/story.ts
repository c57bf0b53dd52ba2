import { Random } from './random.ts';

/** Something that happens in a product's life, and is published. */
export interface LifeEvent {
  eventType: string;
  /** In the simulated time. */
  atMs: number;
  data: object;
  /** What happens, in words. */
  says: string;
}

/** One course of things, such as a customer's or a call's. Its events are in the order of their times. */
export type Story = (life: Life) => Generator<LifeEvent>;

/** The place of one story: its time, which it moves on itself, and its own randomness. */
export class Life {
  readonly random: Random;
  /** From 1; no other story of a simulation has it, so it makes ids that are nobody else's. */
  readonly number: number;
  nowMs: number;

  constructor(seed: number, number: number, nowMs: number) {
    this.random = new Random(seed, number);
    this.number = number;
    this.nowMs = nowMs;
  }

  /** RFC 3339, to the second. */
  get now(): string {
    return timeText(this.nowMs);
  }

  /** Calendar date (UTC). */
  get today(): string {
    return dateText(this.nowMs);
  }

  /** Time goes on by a random number of seconds. */
  wait(secondsMin: number, secondsMax: number): void {
    this.nowMs += this.random.between(secondsMin, secondsMax) * 1000;
  }

  event(eventType: string, says: string, data: object): LifeEvent {
    return { eventType, atMs: this.nowMs, data, says };
  }

  /** A story within this one: it begins now. `part` makes it another than its neighbours. */
  part(part: number): Life {
    return new Life(this.random.between(0, 2 ** 31 - 1), this.number * 1_000 + part, this.nowMs);
  }
}

/** Stories that run side by side, as one course in the order of their times. */
export function* sideBySide(stories: readonly Iterator<LifeEvent>[]): Generator<LifeEvent> {
  const open = stories.map((story) => ({ story, head: story.next() })).filter(({ head }) => head.done !== true);
  while (open.length > 0) {
    const next = open.reduce((first, each) => (each.head.value.atMs < first.head.value.atMs ? each : first));
    yield next.head.value;
    next.head = next.story.next();
    if (next.head.done === true) open.splice(open.indexOf(next), 1);
  }
}

export function timeText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

export function dateText(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

export const MINUTE = 60;
export const HOUR = 3_600;
export const DAY = 86_400;
