import type { SignatureConfig } from '../signing/config.ts';
import type { DeliverySettings } from '../webhooks/settings.ts';
import { EXAMPLE } from './described-event.ts';
import type { SchemaObject } from './schema-parts.ts';

/** A request header of every delivery. */
export interface DeliveryHeader {
  name: string;
  description: string;
  schema: SchemaObject;
  example: string;
  /** The event type's name is its value. */
  namesType?: true;
}

/** The headers that a webhook gets by default, beside those of HTTP itself. `userAgent`: where the preset names none. */
export function deliveryHeaders(settings: DeliverySettings, userAgent: string): DeliveryHeader[] {
  const { signature, eventHeader, envelope } = settings;
  const headers: DeliveryHeader[] = [
    { name: 'User-Agent', description: 'Who sends.', schema: TEXT, example: settings.userAgent ?? userAgent },
    { name: eventHeader, description: 'The event type.', schema: TEXT, example: '', namesType: true },
    {
      name: 'X-Webhook-Delivery',
      description: 'The delivery: the same on each of its attempts.',
      schema: TEXT,
      example: 'dlv_01k5a4vj8mf4t9zp2wq7rn3xce',
    },
    {
      name: 'X-Webhook-Attempt',
      description: 'The number of this attempt, from 1.',
      schema: { type: 'string', pattern: '^[1-9][0-9]*$' },
      example: '1',
    },
  ];
  if (signature.standard || signature.asymmetric) headers.push(...standardHeaders(signature.asymmetric));
  if (signature.method !== 'none') headers.push(bodySignature(signature));
  if (envelope === 'cloudevents_binary') headers.push(...CLOUD_EVENT_HEADERS);
  return headers;
}

const TEXT: SchemaObject = { type: 'string' };

function standardHeaders(asymmetric: boolean): DeliveryHeader[] {
  return [
    {
      name: 'webhook-id',
      description: 'The event: the same for each attempt. What was handled under it need not be handled again.',
      schema: TEXT,
      example: EXAMPLE.id,
    },
    {
      name: 'webhook-timestamp',
      description: 'The time of the attempt, in seconds since 1970.',
      schema: { type: 'string', pattern: '^[0-9]+$' },
      example: '1769860800',
    },
    {
      name: 'webhook-signature',
      description:
        'Signatures of `<webhook-id>.<webhook-timestamp>.<body>` by Standard Webhooks, separated by spaces: ' +
        `\`v1,<base64 of HMAC-SHA256>\`${asymmetric ? ', `v1a,<base64 of ed25519>`' : ''}.`,
      schema: TEXT,
      example: 'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=',
    },
  ];
}

function bodySignature({ method, header, prefix, encoding }: SignatureConfig): DeliveryHeader {
  const [name, bytes, label] = method === 'hmac_sha1' ? ['SHA1', 20, 'sha1='] : ['SHA256', 32, 'sha256='];
  const before = prefix ?? (method === 'hmac_sha256_hex' ? '' : label);
  const digest = Buffer.alloc(bytes, '5d41402abc4b2a76b9719d911017c592', 'hex').toString(encoding);
  const digits = encoding === 'hex' ? `[0-9a-f]{${digest.length}}` : `[A-Za-z0-9+/]{${digest.indexOf('=')}}=`;
  return {
    name: header,
    description: `The HMAC-${name} of the body under the secret: \`${before}<${encoding}>\`.`,
    schema: { type: 'string', pattern: `^${before.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&')}${digits}$` },
    example: before + digest,
  };
}

/** Binary mode of CloudEvents 1.0.2, HTTP protocol binding. Publishers may give an event others, `ce-subject` among them. */
const CLOUD_EVENT_HEADERS: readonly DeliveryHeader[] = [
  { name: 'ce-specversion', description: 'Of CloudEvents.', schema: { const: '1.0' }, example: '1.0' },
  { name: 'ce-id', description: 'The event.', schema: TEXT, example: EXAMPLE.id },
  { name: 'ce-source', description: 'Where it comes from.', schema: TEXT, example: EXAMPLE.source },
  { name: 'ce-type', description: 'The event type.', schema: TEXT, example: '', namesType: true },
  {
    name: 'ce-time',
    description: 'When it happened.',
    schema: { type: 'string', format: 'date-time' },
    example: EXAMPLE.timestamp,
  },
];
