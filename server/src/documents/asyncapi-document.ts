import type { DeliveryHeader } from './delivery-headers.ts';
import type { DescribedEvent } from './described-event.ts';
import { asDraft07 } from './draft-07.ts';
import { parseExactly } from './exact-json.ts';
import type { DocumentInfo } from './openapi-document.ts';
import { partName } from './portable-schema.ts';
import { fromEntries } from './schema-parts.ts';

/** The event types as the messages of an AsyncAPI 3.0 document: one channel, the receiver's URL, and one operation. */
export function asyncApiDocument(
  info: DocumentInfo,
  events: readonly DescribedEvent[],
  headers: readonly DeliveryHeader[],
): object {
  return {
    asyncapi: '3.0.0',
    info,
    defaultContentType: 'application/json',
    channels: {
      webhook: {
        address: null,
        description: 'The URL of a webhook. It gets the event types that it is subscribed to.',
        messages: fromEntries(
          events.map(({ name }) => [partName(name), { $ref: `#/components/messages/${partName(name)}` }]),
        ),
      },
    },
    operations: {
      deliver: {
        action: 'send',
        channel: { $ref: '#/channels/webhook' },
        summary: 'Each event is one request to the webhook, and is sent again until it is answered with 2xx.',
        bindings: { http: { method: 'POST' } },
      },
    },
    components: {
      messages: fromEntries(events.map((event) => [partName(event.name), messageOf(event, headers)])),
      schemas: fromEntries(
        events.flatMap(({ schemas }) =>
          [...schemas].map(([name, schema]) => [name, schemaObject(asDraft07(schema))] as const),
        ),
      ),
    },
  };
}

function messageOf(event: DescribedEvent, headers: readonly DeliveryHeader[]): object {
  const properties = headers.map(
    ({ name, description, schema, namesType }) =>
      [name, { description, ...(namesType === true ? { const: event.name } : schema) }] as const,
  );
  const example =
    event.bodyExample === null
      ? undefined
      : {
          name: 'sample',
          headers: fromEntries(
            headers.map(({ name, example, namesType }) => [name, namesType === true ? event.name : example]),
          ),
          payload: parseExactly(event.bodyExample),
        };
  return {
    name: event.name,
    title: event.name,
    ...(event.description !== '' && { summary: event.description }),
    contentType: event.contentType,
    tags: [{ name: event.group }],
    headers: { type: 'object', properties: fromEntries(properties), required: headers.map(({ name }) => name) },
    payload: asDraft07(event.bodySchema),
    ...(example && { examples: [example] }),
    ...(event.deprecated && { 'x-deprecated': true }),
  };
}

/** A component is an object: `{}` takes everything, as `true` does. */
function schemaObject(schema: unknown): unknown {
  if (typeof schema !== 'boolean') return schema;
  return schema ? {} : { not: {} };
}
