/** What a requirement document calls the things that the canonical API has other names for. */
export interface Words {
  /** Stands before the name of a shared schema that is said in these words. */
  name: string;
  /** Members of rows by their canonical name: they are answered under the document's name as well. */
  aliases: Readonly<Record<string, string>>;
  /** Query parameters by the document's name: they are asked for under either. */
  parameters: Readonly<Record<string, string>>;
  /** What the document shows of a single row beside its members, and its schema. */
  beside?: { name: string; schema: object; of: (row: Row) => unknown };
}

export type Row = Record<string, unknown>;

/** call-center.md speaks of endpoints with `custom_headers`, and prints the error of a delivery that failed. */
export const CALL_CENTER: Words = {
  name: 'CallCenter',
  aliases: { webhook_id: 'endpoint_id', headers: 'custom_headers' },
  parameters: { endpoint_id: 'webhook_id', event_type: 'event' },
  beside: {
    name: 'error',
    schema: {
      anyOf: [
        {
          type: 'object',
          required: ['code', 'message', 'details', 'retry_after'],
          properties: {
            code: { const: 'DELIVERY_FAILED' },
            message: { type: 'string' },
            details: {
              type: 'object',
              required: ['endpoint_id', 'last_attempt', 'last_status_code', 'last_error'],
              properties: {
                endpoint_id: { type: 'string' },
                last_attempt: { type: ['string', 'null'] },
                last_status_code: { type: ['integer', 'null'] },
                last_error: { type: ['string', 'null'] },
              },
            },
            retry_after: { type: ['string', 'null'], description: 'When it is tried again; null: not by itself.' },
          },
        },
        { type: 'null' },
      ],
      description: 'What the last attempt failed with; null for a delivery that has not failed.',
    },
    of: deliveryError,
  },
};

/** call-center.md, "Error Response Format", of a delivery that is shown with its attempts. */
function deliveryError(row: Row): object | null {
  if (row.status !== 'failed' && row.status !== 'dead') return null;
  const count = Number(row.attempt_count);
  const last = (row.attempts as Row[]).at(-1);
  return {
    code: 'DELIVERY_FAILED',
    message: `Webhook delivery failed after ${count} attempt${count === 1 ? '' : 's'}`,
    details: {
      endpoint_id: row.webhook_id,
      last_attempt: last?.created_at ?? null,
      last_status_code: row.response_status,
      last_error: row.error_message,
    },
    retry_after: row.next_attempt_at,
  };
}

/** Members that hold rows: of a page, and of a delivery that is shown with its attempts. */
const HOLDING_ROWS = ['data', 'attempts'];

const isRow = (value: unknown): value is Row => typeof value === 'object' && value !== null && !Array.isArray(value);

/** An answer with the names of the document beside the canonical ones: a row, a page of rows, a row with rows. */
export function inWords(words: Words, answer: unknown): unknown {
  if (Array.isArray(answer)) return answer.map((each) => inWords(words, each));
  if (!isRow(answer)) return answer;
  const said: Row = { ...answer };
  for (const [name, other] of Object.entries(words.aliases)) {
    if (Object.hasOwn(answer, name)) said[other] = answer[name];
  }
  if (words.beside !== undefined && Array.isArray(answer.attempts)) said[words.beside.name] = words.beside.of(answer);
  for (const name of HOLDING_ROWS) {
    if (Array.isArray(answer[name])) said[name] = inWords(words, answer[name]);
  }
  return said;
}

/** As much of a JSON Schema as the answers of routes have. */
export interface AnswerSchema {
  $ref?: string;
  properties?: Record<string, AnswerSchema>;
  required?: string[];
  items?: AnswerSchema;
}

/** Schemas that others refer to, by their `$id`; what is added is another one of them. */
export interface SharedSchemas {
  getSchema(id: string): unknown;
  addSchema(schema: object): unknown;
}

/** The schema of what `inWords` gives. */
export function schemaInWords(words: Words, schema: AnswerSchema, shared: SharedSchemas): AnswerSchema {
  if (schema.$ref !== undefined) {
    const $id = words.name + schema.$ref;
    if (shared.getSchema($id) !== undefined) return { $ref: $id };
    const referred = shared.getSchema(schema.$ref) as AnswerSchema;
    const said = schemaInWords(words, referred, shared);
    // Nothing in it has another name here.
    if (said === referred) return schema;
    shared.addSchema({ ...said, $id, title: $id });
    return { $ref: $id };
  }
  if (schema.items !== undefined) {
    const items = schemaInWords(words, schema.items, shared);
    return items === schema.items ? schema : { ...schema, items };
  }
  if (schema.properties === undefined) return schema;
  const properties = { ...schema.properties };
  for (const [name, other] of Object.entries(words.aliases)) {
    if (properties[name] !== undefined) properties[other] = { ...properties[name], ...described(name) };
  }
  if (words.beside !== undefined && properties.attempts !== undefined) {
    properties[words.beside.name] = words.beside.schema;
  }
  for (const name of HOLDING_ROWS) {
    const held = properties[name];
    if (held !== undefined) properties[name] = schemaInWords(words, held, shared);
  }
  const same = Object.keys(properties).every((name) => properties[name] === schema.properties?.[name]);
  return same ? schema : { ...schema, properties };
}

const described = (name: string) => ({ description: `The same as \`${name}\`.` });
