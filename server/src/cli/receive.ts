import { Command } from 'commander';
import { generateSecret } from '../signing/secrets.ts';
import { createApiClient } from './api-client.ts';
import { CommandError } from './command-error.ts';
import { addConnectionOptions, type ConnectionOptions, resolveConnection } from './connection.ts';
import { wholeNumber } from './number-option.ts';
import { type ArrivedRequest, type LocalReceiver, startLocalReceiver } from './receive/local-receiver.ts';
import { type Registration, registerReceiver } from './receive/registration.ts';
import { reportRequest } from './receive/report.ts';
import { judgeSignatures } from './receive/verdicts.ts';
import { printable } from './safe-text.ts';
import { awaitStop } from './stop-request.ts';
import type { Terminal } from './terminal.ts';

interface ReceiveOptions extends ConnectionOptions {
  port?: number;
  path: string;
  secret?: string;
  subscribe: string;
  status: number;
  register: boolean;
}

const USUAL_PORT = 4000;

/** `posthorn receive`: a receiver on this machine that shows what arrives and checks its signatures. */
export function receiveCommand(terminal: Terminal): Command {
  const command = new Command('receive')
    .description('show what arrives at this machine, and check its signatures')
    .option('--port <port>', `port to listen on (default: ${USUAL_PORT}, or a free one)`, wholeNumber(1, 65_535))
    .option('--path <path>', 'path of the registered URL; requests on any path are shown', '/')
    .option('--secret <secret>', "the webhook's secret; nothing is registered then")
    .option('--subscribe <events>', 'events to register for: names and patterns, separated by commas', '*')
    .option('--status <status>', 'status to answer with, such as 500 to see retries', wholeNumber(200, 599), 200)
    .option('--no-register', 'only listen');
  return addConnectionOptions(command)
    .addHelpText(
      'after',
      `
Registers itself as a webhook at the local Posthorn, and removes that webhook when it stops (Ctrl-C).

Examples:
  $ npx posthorn receive
  $ npx posthorn receive --subscribe 'message.*,contact.created' --status 500
  $ npx posthorn receive --port 4100 --secret whsec_...`,
    )
    .action((options: ReceiveOptions) => receive(options, terminal));
}

async function receive(options: ReceiveOptions, terminal: Terminal): Promise<void> {
  if (!options.path.startsWith('/')) throw new CommandError('--path must start with "/".');
  const registers = options.register && options.secret === undefined;
  const ownSecret = generateSecret();
  let secret = registers ? ownSecret : options.secret;
  let arrivedCount = 0;
  let validCount = 0;
  const receiver = await listen(options, terminal, (arrived) => {
    const verdicts = judgeSignatures(arrived.headers, arrived.body, secret, terminal.clock.now());
    arrivedCount += 1;
    if (verdicts.every((verdict) => verdict.valid === true)) validCount += 1;
    terminal.print(reportRequest(arrived, options.status, verdicts));
  });
  const stop = awaitStop(terminal);
  try {
    const url = `http://127.0.0.1:${receiver.port}${options.path}`;
    terminal.print(`Listening on ${printable(url)}. Ctrl-C stops it.`);
    const registration = registers ? await register(options, url, ownSecret, terminal) : undefined;
    // What arrives without a registration of ours was signed with a secret that is not known here.
    if (registers && registration === undefined) secret = undefined;
    await stop.requested;
    await unregister(registration, terminal);
    terminal.print(`\nReceived ${arrivedCount}, ${validCount} of them with valid signatures.`);
  } finally {
    await receiver.stop();
    stop.dispose();
  }
}

/** The usual port gives way to a free one when it is taken; a port that was asked for does not. */
async function listen(
  options: ReceiveOptions,
  terminal: Terminal,
  onRequest: (arrived: ArrivedRequest) => void,
): Promise<LocalReceiver> {
  const { clock } = terminal;
  const { status, port } = options;
  if (port !== undefined) return startLocalReceiver({ port, status, clock, onRequest });
  try {
    return await startLocalReceiver({ port: USUAL_PORT, status, clock, onRequest });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return startLocalReceiver({ port: 0, status, clock, onRequest });
  }
}

/** Undefined when it did not work out. That is said, and is no reason to end: requests can come without it. */
async function register(
  options: ReceiveOptions,
  url: string,
  secret: string,
  terminal: Terminal,
): Promise<Registration | undefined> {
  const events = options.subscribe
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  try {
    const client = createApiClient(resolveConnection(options, terminal.env));
    const registration = await registerReceiver(client, { url, events, secret });
    const subscribed = events.includes('*') ? 'all events' : events.join(', ');
    terminal.print(
      `Registered at ${client.url} as ${printable(registration.webhookId)} for ${printable(subscribed)}. Publish one with:\n\n` +
        `  npx posthorn publish example.greeting --data '{"text":"Hello"}'\n`,
    );
    return registration;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    terminal.complain(`Not registered as a webhook, only listening. ${error.message}`);
    return undefined;
  }
}

async function unregister(registration: Registration | undefined, terminal: Terminal): Promise<void> {
  try {
    await registration?.remove();
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    terminal.complain(`The webhook ${printable(registration?.webhookId ?? '')} could not be removed. ${error.message}`);
  }
}
