import type { OutgoingEvent } from '../publish-event.ts';
import type { Play } from './plays.ts';
import { HOUR, Life, type LifeEvent, timeText } from './story.ts';

export interface SimulatedEvent extends LifeEvent {
  /** Stories that have begun. */
  stories: number;
}

/**
 * The life of a product without end: stories side by side, and a new one when one has ended. Times never go back. The
 * same seed and start give the same events.
 */
export function* simulate(play: Play, seed: number, startMs: number): Generator<SimulatedEvent, never> {
  let stories = 0;
  const begin = (afterMs: number) => {
    stories += 1;
    const life = new Life(seed, stories, afterMs);
    // They do not begin in step.
    if (play.atOnce > 1) life.wait(60, 4 * HOUR);
    const story = play.story(life);
    const first = story.next();
    if (first.done === true) throw new Error('A story has no event.');
    return { story, head: first.value };
  };
  const open = Array.from({ length: play.atOnce }, () => begin(startMs));
  for (;;) {
    let earliest = 0;
    for (const [at, { head }] of open.entries()) {
      if (head.atMs < (open[earliest]?.head.atMs ?? Number.POSITIVE_INFINITY)) earliest = at;
    }
    const next = open[earliest];
    if (next === undefined) throw new Error('A simulation plays no story.');
    yield { ...next.head, stories };
    const following = next.story.next();
    if (following.done === true) open[earliest] = begin(next.head.atMs);
    else next.head = following.value;
  }
}

/** The same as it is published, with the simulated time as the time of each event. `onEvent` is told of each before. */
export function* outgoingEvents(
  play: Play,
  seed: number,
  startMs: number,
  onEvent: (event: SimulatedEvent) => void = () => {},
): Generator<OutgoingEvent, never> {
  for (const event of simulate(play, seed, startMs)) {
    onEvent(event);
    const { eventType, data, atMs } = event;
    yield { eventType, data: Buffer.from(JSON.stringify(data)), timestamp: timeText(atMs) };
  }
  throw new Error('A simulation has ended.');
}
