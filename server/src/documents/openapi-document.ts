import type { DeliveryHeader } from './delivery-headers.ts';
import type { DescribedEvent } from './described-event.ts';
import { parseExactly } from './exact-json.ts';
import { partName } from './portable-schema.ts';
import { fromEntries } from './schema-parts.ts';

/** What both documents say of the whole. */
export interface DocumentInfo {
  title: string;
  version: string;
  description: string;
}

/**
 * The event types as the `webhooks` of an OpenAPI 3.1 document. `x-event-data` and `x-event-sample` are the event's
 * data without its envelope: from them an import makes the event types again.
 */
export function openApiDocument(
  info: DocumentInfo,
  events: readonly DescribedEvent[],
  headers: readonly DeliveryHeader[],
): object {
  const groups = [...new Set(events.map(({ group }) => group))];
  const named = headers.map((header) => [header.name.toLowerCase(), header] as const);
  return {
    openapi: '3.1.0',
    info,
    jsonSchemaDialect: 'https://json-schema.org/draft/2020-12/schema',
    tags: groups.map((name) => ({ name })),
    webhooks: fromEntries(events.map((event) => [event.name, { post: operationOf(event, named) }])),
    components: {
      schemas: fromEntries(events.flatMap(({ schemas }) => [...schemas])),
      parameters: fromEntries(named.map(([key, header]) => [key, parameterOf(header)])),
    },
  };
}

function operationOf(event: DescribedEvent, headers: readonly (readonly [string, DeliveryHeader])[]): object {
  const sample = event.bodyExample === null ? undefined : { value: parseExactly(event.bodyExample) };
  return {
    operationId: event.name,
    tags: [event.group],
    ...(event.description !== '' && { description: event.description }),
    ...(event.deprecated && { deprecated: true }),
    parameters: headers.map(([key]) => ({ $ref: `#/components/parameters/${key}` })),
    requestBody: {
      required: true,
      content: { [event.contentType]: { schema: event.bodySchema, ...(sample && { examples: { sample } }) } },
    },
    responses: {
      '2XX': { description: 'It was received; nothing more is sent.' },
      '410': { description: 'The endpoint is gone: its webhook is disabled.' },
      default: { description: 'It was not received, and is sent again as the webhook’s retry policy says.' },
    },
    'x-event-data': { $ref: `#/components/schemas/${partName(event.name)}` },
    ...(event.sample !== null && { 'x-event-sample': parseExactly(event.sample) }),
  };
}

function parameterOf({ name, description, schema, example, namesType }: DeliveryHeader): object {
  return { name, in: 'header', required: true, description, schema, ...(namesType !== true && { example }) };
}
