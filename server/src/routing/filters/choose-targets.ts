import type { FilterSet } from './filter-set.ts';
import { type FilteredContent, FilteredEvent } from './filtered-event.ts';

interface Filtering {
  readonly filter: FilterSet | null;
}

/** Who gets an event, and whose filters keep it from them. */
export interface Chosen<T> {
  wanted: readonly T[];
  filtered: readonly T[];
}

/** Work at a stretch: some 2 ms of an ordinary sort. One webhook is judged in one go, whatever it takes. */
const WORK_AT_A_STRETCH = 20_000;

const NONE: readonly never[] = [];

/**
 * Asks the filters of those who are subscribed. Where nobody has one, nothing but a field of each is looked at: 2 ns for
 * each. With many costly filters it is a promise, and other work has its turn meanwhile, however many events wait for it.
 */
export function chooseTargets<T extends Filtering>(
  subscribed: readonly T[],
  content: FilteredContent,
): Chosen<T> | Promise<Chosen<T>> {
  let first = 0;
  while (first < subscribed.length && subscribed[first]?.filter === null) first += 1;
  if (first === subscribed.length) return { wanted: subscribed, filtered: NONE };
  const choice = new Choice(subscribed, first, new FilteredEvent(content));
  return choice.goOn() ? choice : inTurns(choice);
}

/** Those that go on, one stretch of one of them between two looks at the events of the process. */
const unfinished: (() => void)[] = [];

function inTurns<T extends Filtering>(choice: Choice<T>): Promise<Chosen<T>> {
  return new Promise((resolve, reject) => {
    const goOn = () => {
      try {
        if (choice.goOn()) resolve(choice);
        else unfinished.push(goOn);
      } catch (error) {
        reject(error);
      }
    };
    if (unfinished.push(goOn) === 1) setImmediate(takeTurn);
  });
}

function takeTurn(): void {
  unfinished[0]?.();
  unfinished.shift();
  if (unfinished.length > 0) setImmediate(takeTurn);
}

class Choice<T extends Filtering> implements Chosen<T> {
  readonly wanted: T[];
  readonly filtered: T[] = [];
  readonly #subscribed: readonly T[];
  readonly #event: FilteredEvent;
  #at: number;

  constructor(subscribed: readonly T[], at: number, event: FilteredEvent) {
    this.#subscribed = subscribed;
    this.wanted = subscribed.slice(0, at);
    this.#at = at;
    this.#event = event;
  }

  /** Judges for a stretch; true when all are judged. */
  goOn(): boolean {
    const until = this.#event.work + WORK_AT_A_STRETCH;
    for (; this.#at < this.#subscribed.length; this.#at += 1) {
      if (this.#event.work >= until) return false;
      const target = this.#subscribed[this.#at] as T;
      const matches = target.filter === null || target.filter.matches(this.#event);
      (matches ? this.wanted : this.filtered).push(target);
    }
    return true;
  }
}
