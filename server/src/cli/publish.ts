import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { Command } from 'commander';
import { createApiClient } from './api-client.ts';
import { CommandError } from './command-error.ts';
import { addConnectionOptions, type ConnectionOptions, resolveConnection } from './connection.ts';
import { describePublished, publishEvent } from './publish-event.ts';
import type { Terminal } from './terminal.ts';

interface PublishOptions extends ConnectionOptions {
  data?: string;
  file?: string;
  eventId?: string;
  idempotencyKey?: string;
}

/** `posthorn publish`: one event with data of one's own. */
export function publishCommand(terminal: Terminal): Command {
  const command = new Command('publish')
    .description('publish one event')
    .argument('<event_type>', 'name of the event, such as invoice.paid')
    .option('-d, --data <json>', 'the data, as JSON')
    .option('-f, --file <path>', 'a file that holds the data')
    .option('--event-id <id>', 'id of your own; the same id again is not sent again')
    .option('--idempotency-key <key>', 'Idempotency-Key of the request');
  return addConnectionOptions(command)
    .addHelpText(
      'after',
      `
Without --data and --file the data is read from standard input. It reaches receivers as it is written, to the byte.

Examples:
  $ npx posthorn publish invoice.paid --data '{"invoice":"2025-117","total":49.90}'
  $ npx posthorn publish invoice.paid --file invoice.json --event-id invoice-2025-117
  $ jq .invoice export.json | npx posthorn publish invoice.paid`,
    )
    .action(async (eventType: string, options: PublishOptions) => {
      const data = await readData(options, terminal);
      const client = createApiClient(resolveConnection(options, terminal.env));
      const { eventId, idempotencyKey } = options;
      terminal.print(describePublished(await publishEvent(client, { eventType, data, eventId, idempotencyKey })));
    });
}

async function readData(options: PublishOptions, terminal: Terminal): Promise<Buffer> {
  if (options.data !== undefined && options.file !== undefined) {
    throw new CommandError('Give the data with --data or with --file, not both.');
  }
  if (options.data !== undefined) return Buffer.from(options.data);
  if (options.file !== undefined) return readDataFile(options.file);
  if (terminal.input.isTTY === true) {
    throw new CommandError('Give the data with --data or --file, or pipe it in.');
  }
  return buffer(terminal.input);
}

async function readDataFile(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new CommandError(`${file} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
  }
}
