import { Command, InvalidArgumentError } from 'commander';
import type { Clock } from '../kernel/clock.ts';
import { apiPath, createApiClient } from './api-client.ts';
import { addConnectionOptions, type ConnectionOptions, resolveConnection } from './connection.ts';
import { wholeNumber } from './number-option.ts';
import { pause } from './pause.ts';
import type { OutgoingEvent } from './publish-event.ts';
import { printable } from './safe-text.ts';
import { findPlay, PLAYS, type Play } from './simulate/plays.ts';
import { outgoingEvents, type SimulatedEvent } from './simulate/simulation.ts';
import { timeText } from './simulate/story.ts';
import { awaitStop } from './stop-request.ts';
import { streamEvents } from './stream-events.ts';
import type { Terminal } from './terminal.ts';

interface SimulateOptions extends ConnectionOptions {
  preset: string;
  rate: number;
  seconds?: number;
  events?: number;
  seed: number;
  start: number;
  install: boolean;
  quiet?: true;
}

/** Mondays are busy. */
const START = '2026-01-05T08:00:00Z';

/** `posthorn simulate`: the life of a product, published event by event. */
export function simulateCommand(terminal: Terminal): Command {
  const command = new Command('simulate')
    .description('play the life of a product: events that tell of the same customers, calls or tickets')
    .requiredOption('--preset <name>', `what to play: ${PLAYS.map(({ preset }) => preset).join(', ')}`)
    .option('--rate <events>', 'events a second', wholeNumber(1, 500), 5)
    .option('--seconds <seconds>', 'end by itself after so long (default: Ctrl-C ends it)', wholeNumber(1, 86_400))
    .option('--events <count>', 'end by itself after so many events', wholeNumber(1, 999_999_999))
    .option('--seed <number>', 'the same number plays the same events', wholeNumber(0, 999_999_999), 1)
    .option('--start <time>', 'the simulated time at which it begins', readTime, Date.parse(START))
    .option('--no-install', "leave the tenant's event types as they are; the preset must be there")
    .option('--quiet', 'print the summary only');
  return addConnectionOptions(command)
    .addHelpText(
      'after',
      `
Installs the preset first, which makes its envelope and headers those of the environment. What is played, and its times,
follow from the seed; the time of each event is the simulated one.

Examples:
  $ npx posthorn simulate --preset isp-framework
  $ npx posthorn simulate --preset call-center --rate 50 --seconds 60 --seed 7`,
    )
    .action((options: SimulateOptions) => play(options, terminal));
}

async function play(options: SimulateOptions, terminal: Terminal): Promise<void> {
  const chosen = findPlay(options.preset);
  const client = createApiClient(resolveConnection(options, terminal.env));
  const stop = awaitStop(terminal);
  const over = new AbortController();
  const ended = AbortSignal.any([stop.signal, over.signal]);
  try {
    if (options.install) {
      await client.callRaw({ method: 'POST', path: apiPath('/api/v1/event-types/presets', options.preset) });
    }
    terminal.print(introduction(options, chosen));
    const seen = new Seen(terminal.clock);
    const onEvent = (event: SimulatedEvent) => {
      seen.add(event);
      if (options.quiet !== true) terminal.print(line(event));
    };
    const events = outgoingEvents(chosen, options.seed, options.start, onEvent);
    if (options.seconds !== undefined)
      void pause(terminal.clock, options.seconds * 1000, ended).then(() => over.abort());
    await streamEvents({
      client,
      clock: terminal.clock,
      events: options.events === undefined ? events : firstOf(events, options.events),
      perSecond: options.rate,
      signal: ended,
      onPublished: ({ deliveries }) => seen.published(deliveries),
    });
    terminal.print(seen.summary(chosen));
  } finally {
    over.abort();
    stop.dispose();
  }
}

/** What was played and published so far. */
class Seen {
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #types = new Set<string>();
  #last: SimulatedEvent | undefined;
  #events = 0;
  #deliveries = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startedMs = clock.monotonicMs();
  }

  add(event: SimulatedEvent): void {
    this.#types.add(event.eventType);
    this.#last = event;
  }

  published(deliveries: number): void {
    this.#events += 1;
    this.#deliveries += deliveries;
  }

  summary({ noun }: Play): string {
    const seconds = (this.#clock.monotonicMs() - this.#startedMs) / 1000;
    const stories = this.#last?.stories ?? 0;
    const until = this.#last === undefined ? '' : `, until ${timeText(this.#last.atMs)}`;
    const sent =
      this.#deliveries === 0 && this.#events > 0
        ? 'No webhook is subscribed to them.'
        : `They go to webhooks as ${counted(this.#deliveries, ['delivery', 'deliveries'])}.`;
    return `
Published ${counted(this.#events, ['event', 'events'])} of ${counted(this.#types.size, ['type', 'types'])} in ${seconds.toFixed(1)} s: ${counted(stories, noun)}${until}.
${sent}`;
  }
}

function counted(count: number, [one, many]: readonly [string, string]): string {
  return `${count} ${count === 1 ? one : many}`;
}

function introduction({ preset, rate, seed, start }: SimulateOptions, { title }: Play): string {
  return `Playing ${title} (${preset}).
${counted(rate, ['event', 'events'])} a second, seed ${seed}, from ${timeText(start)} on. Ctrl-C ends it.
`;
}

function line({ atMs, eventType, says }: SimulatedEvent): string {
  return printable(`${timeText(atMs)}  ${eventType.padEnd(28)}  ${says}`);
}

function* firstOf(events: Iterable<OutgoingEvent>, count: number): Generator<OutgoingEvent> {
  let given = 0;
  for (const event of events) {
    yield event;
    given += 1;
    if (given === count) return;
  }
}

/** Times that a `Date` writes in four digits of year, with room for years of play. */
function readTime(text: string): number {
  const ms = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?Z$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms) || text >= '9000') throw new InvalidArgumentError(`It must be a time such as ${START}.`);
  return ms;
}
