import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { Type } from 'typebox';
import type { RunningPosthorn } from '../app.ts';
import { readConfig } from '../config.ts';
import type { Clock } from '../kernel/clock.ts';
import { type ApiClient, apiPath, createApiClient } from './api-client.ts';
import { createDisplay } from './demo/display.ts';
import { fetchFigures, type ReceiverFigures, type SubscribedReceiver } from './demo/figures.ts';
import { type DemoReceiver, startDemoReceivers } from './demo/receivers.ts';
import { wholeNumber } from './number-option.ts';
import { pause } from './pause.ts';
import { findPlay, type Play } from './simulate/plays.ts';
import { outgoingEvents } from './simulate/simulation.ts';
import { awaitStop } from './stop-request.ts';
import { streamEvents } from './stream-events.ts';
import type { Terminal } from './terminal.ts';

interface DemoOptions {
  preset: string;
  rate: number;
  seconds?: number;
}

/** `posthorn demo`: the main job, shown by itself. */
export function demoCommand(terminal: Terminal): Command {
  return new Command('demo')
    .description('watch Posthorn deliver to a healthy, a flaky and a dead receiver')
    .option('--preset <name>', 'whose event types to publish', 'whatsapp-crm')
    .option('--rate <events>', 'events a second', wholeNumber(1, 500), 5)
    .option('--seconds <seconds>', 'end by itself (default: Ctrl-C ends it)', wholeNumber(1, 86_400))
    .addHelpText(
      'after',
      `
Runs a Posthorn of its own in a temporary folder and on a free port, and removes both at the end.
Settings in the environment are not used.

Examples:
  $ npx posthorn demo
  $ npx posthorn demo --preset call-center --rate 50 --seconds 20`,
    )
    .action((options: DemoOptions) => demonstrate(options, terminal));
}

async function demonstrate(options: DemoOptions, terminal: Terminal): Promise<void> {
  await runDemo(options, findPlay(options.preset), terminal);
  terminal.print('Stopped; nothing is left behind.');
}

/** Returns when everything it started is stopped and removed again. */
async function runDemo(options: DemoOptions, play: Play, terminal: Terminal): Promise<void> {
  await using cleanup = new AsyncDisposableStack();
  const stop = awaitStop(terminal);
  cleanup.defer(stop.dispose);

  const folder = await mkdtemp(path.join(tmpdir(), 'posthorn-demo-'));
  cleanup.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  // Started by root, PostgreSQL runs as another user, who has to pass this folder.
  await chmod(folder, 0o711);

  terminal.print('Starting Posthorn with a database of its own ...');
  const { startPosthorn } = await import('../app.ts');
  const config = { ...readConfig('dev', {}), dataDir: path.join(folder, 'data'), port: 0, drainSeconds: 2 };
  const running = await startPosthorn({ ...config, logLevel: 'silent' });
  cleanup.defer(() => running.stop());

  const receivers = await startDemoReceivers({ clock: terminal.clock, random: Math.random });
  cleanup.defer(async () => {
    await Promise.all(receivers.map((receiver) => receiver.stop()));
  });
  await showDeliveries({ options, play, running, receivers, terminal, stopSignal: stop.signal });
}

interface Show {
  options: DemoOptions;
  play: Play;
  running: RunningPosthorn;
  receivers: readonly DemoReceiver[];
  terminal: Terminal;
  stopSignal: AbortSignal;
}

async function showDeliveries(show: Show): Promise<void> {
  const { options, running, receivers, terminal } = show;
  const { clock } = terminal;
  const client = createApiClient({
    url: running.url,
    key: running.operatorKey,
    keySource: 'the demo',
    tenant: undefined,
    environment: undefined,
  });
  await client.callRaw({ method: 'POST', path: apiPath('/api/v1/event-types/presets', options.preset) });
  const subscribed = await subscribe(client, receivers);
  terminal.print(introduction(show));

  const over = new AbortController();
  const ended = AbortSignal.any([show.stopSignal, over.signal]);
  const startedAtMs = clock.monotonicMs();
  const elapsedSeconds = () => (clock.monotonicMs() - startedAtMs) / 1000;
  let published = 0;
  const onPublished = () => {
    published += 1;
  };
  const look = () => fetchFigures(client, subscribed, published);

  const display = createDisplay(terminal);
  const events = outgoingEvents(show.play, DEMO_SEED, clock.now());
  const streaming = streamEvents({ client, clock, events, perSecond: options.rate, signal: ended, onPublished });
  const watching = (async () => {
    for (;;) {
      await pause(clock, display.intervalMs, ended);
      if (ended.aborted) return;
      display.show(await look(), elapsedSeconds());
    }
  })();
  if (options.seconds !== undefined) void pause(clock, options.seconds * 1000, ended).then(() => over.abort());
  try {
    await Promise.all([streaming, watching]);
  } finally {
    over.abort();
    await Promise.allSettled([streaming, watching]);
  }
  terminal.print('\nEnding: requests under way are waited for ...\n');
  for (const { webhookId } of subscribed) await pauseWebhook(client, webhookId);
  const figures = await settle(look, clock);
  createDisplay(terminal).show(figures, elapsedSeconds());
  terminal.print(summary(figures, receivers, published));
}

/** Each demo shows the same course of things. */
const DEMO_SEED = 1;

/** Delays in seconds before the second, third and fourth attempt: short, so that a dead letter is seen soon. */
const RETRY_SCHEDULE = [1, 2, 4];

const CreatedWebhook = Type.Object({ id: Type.String() });

async function subscribe(client: ApiClient, receivers: readonly DemoReceiver[]): Promise<SubscribedReceiver[]> {
  const subscribed: SubscribedReceiver[] = [];
  for (const receiver of receivers) {
    const { id } = await client.call(CreatedWebhook, {
      method: 'POST',
      path: '/api/v1/webhooks',
      body: {
        name: receiver.name,
        url: receiver.url,
        events: ['*'],
        secret: receiver.secret,
        timeout_seconds: 1,
        retry_policy: { schedule_seconds: RETRY_SCHEDULE, max_attempts: RETRY_SCHEDULE.length + 1, jitter: 0.1 },
      },
    });
    subscribed.push({ receiver, webhookId: id });
  }
  return subscribed;
}

function introduction({ options, play, running, receivers }: Show): string {
  const width = Math.max(...receivers.map((receiver) => receiver.name.length));
  const rate = `${options.rate} ${options.rate === 1 ? 'event' : 'events'} a second`;
  return `
Publishing ${rate} to three receivers: ${play.title}.

${receivers.map((receiver) => `  ${receiver.name.padEnd(width)}  ${receiver.habit}`).join('\n')}

A failed attempt is tried again after 1, 2 and 4 s; then the delivery is dead, and is kept.
Look around meanwhile: ${running.url}/docs, with the key ${running.operatorKey}
Ctrl-C ends it.
`;
}

/** What waits is then held, and so the figures come to rest. */
async function pauseWebhook(client: ApiClient, webhookId: string): Promise<void> {
  await client.callRaw({ method: 'POST', path: `${apiPath('/api/v1/webhooks', webhookId)}/pause` });
}

/** How long a request may be under way: its time-out, and some. */
const SETTLE_MS = 5_000;

/** Looks until nothing is under way, so that every delivery can be accounted for. */
async function settle(look: () => Promise<ReceiverFigures[]>, clock: Clock): Promise<ReceiverFigures[]> {
  const deadlineMs = clock.monotonicMs() + SETTLE_MS;
  for (;;) {
    const figures = await look();
    if (clock.monotonicMs() > deadlineMs || unaccounted(figures) === 0) return figures;
    await pause(clock, 50);
  }
}

function unaccounted(figures: readonly ReceiverFigures[]): number {
  return figures.reduce((sum, each) => sum + Math.abs(each.waiting - each.scheduled), 0);
}

function summary(figures: readonly ReceiverFigures[], receivers: readonly DemoReceiver[], published: number): string {
  const requests = receivers.reduce((sum, receiver) => sum + receiver.seen.requests, 0);
  const valid = receivers.reduce((sum, receiver) => sum + receiver.seen.validSignatures, 0);
  const rest = unaccounted(figures);
  const verdict =
    rest === 0
      ? 'Every delivery has arrived, waits for its next attempt, or is kept as a dead letter: none is lost.'
      : `${rest} deliveries are under way.`;
  return `
${published} events published, ${requests} requests received, ${valid} of them with a valid signature.
${verdict}
`;
}
