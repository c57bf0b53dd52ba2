import { Command } from 'commander';
import { parseRawJson } from '../kernel/raw-json.ts';
import { type ApiClient, apiPath, createApiClient } from './api-client.ts';
import { CommandError } from './command-error.ts';
import { addConnectionOptions, type ConnectionOptions, resolveConnection } from './connection.ts';
import { describePublished, publishEvent } from './publish-event.ts';
import type { Terminal } from './terminal.ts';

/** `posthorn trigger`: one event with the sample that its type was described with. */
export function triggerCommand(terminal: Terminal): Command {
  const command = new Command('trigger')
    .description("publish an event type's sample")
    .argument('<event_type>', 'name of a type in the catalogue, such as message.new');
  return addConnectionOptions(command)
    .addHelpText(
      'after',
      `
The type must be in the tenant's catalogue. A preset brings a whole set:
  $ curl -X POST -H "Authorization: Bearer $KEY" http://127.0.0.1:7678/api/v1/event-types/presets/whatsapp-crm

Example:
  $ npx posthorn trigger message.new`,
    )
    .action(async (eventType: string, options: ConnectionOptions) => {
      const client = createApiClient(resolveConnection(options, terminal.env));
      const data = await fetchSample(client, eventType);
      terminal.print(describePublished(await publishEvent(client, { eventType, data })));
    });
}

/**
 * The sample's JSON text as the catalogue keeps it.
 *
 * @throws CommandError when the type has none, ApiError 404 when there is no such type.
 */
async function fetchSample(client: ApiClient, eventType: string): Promise<Buffer> {
  const bytes = await client.callRaw({ method: 'GET', path: apiPath('/api/v1/webhooks/events', eventType) });
  const sample = parseRawJson(bytes, { maxDepth: Number.POSITIVE_INFINITY }).member('sample');
  if (sample === undefined || sample.equals(Buffer.from('null'))) {
    throw new CommandError(`${eventType} has no sample: publish it with data of your own ("posthorn publish").`);
  }
  return sample;
}
