import { type Static, Type } from 'typebox';

/** The legacy schemes: an HMAC of the body alone, as the requirement documents' receivers check it. */
export const BODY_HMAC_METHODS = ['hmac_sha256_hex', 'hmac_sha256', 'hmac_sha1'] as const;

/** How a body is spelled that is sent and signed: as published, or as a receiver writes it anew before it verifies. */
const BODY_SPELLINGS = ['published', 'json_stringify'] as const;

/** How the digest of a body is written. */
export const BODY_HMAC_ENCODINGS = ['hex', 'base64'] as const;

export type BodyHmacMethod = (typeof BODY_HMAC_METHODS)[number];

/**
 * What a user can say about a webhook's signatures. The defaults are not in the schema, because a validator that
 * fills them in would reset, on an update, what the update does not mention; see `DEFAULT_SIGNATURE`.
 */
export const SignatureSettingsSchema = Type.Object(
  {
    standard: Type.Optional(
      Type.Boolean({ description: 'Standard Webhooks signatures with the secret (`v1`). Default true.' }),
    ),
    asymmetric: Type.Optional(
      Type.Boolean({ description: 'Standard Webhooks signatures with an ed25519 key pair (`v1a`). Default false.' }),
    ),
    method: Type.Optional(
      Type.Enum(['none', ...BODY_HMAC_METHODS], {
        description:
          'A further signature, of the body alone: `hmac_sha256_hex` is `<hex>`, `hmac_sha256` is `sha256=<hex>`, ' +
          '`hmac_sha1` is `sha1=<hex>`. Default `none`.',
      }),
    ),
    header: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 64,
        pattern: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
        description: 'The header of that further signature. Default `X-Webhook-Signature`.',
      }),
    ),
    prefix: Type.Optional(
      Type.String({
        maxLength: 32,
        // Spaces at the beginning of a header's value are not a part of it.
        pattern: '^([\\x21-\\x7e][\\x20-\\x7e]*)?$',
        description:
          'What stands before the digest of that further signature; empty: nothing. Default: as `method` says.',
      }),
    ),
    encoding: Type.Optional(
      Type.Enum([...BODY_HMAC_ENCODINGS], {
        description: 'How the digest of that further signature is written. Default `hex`.',
      }),
    ),
    body_spelling: Type.Optional(
      Type.Enum([...BODY_SPELLINGS], {
        description:
          '`published`: the body has the data as it was published. `json_stringify`: the body is sent, and signed, as ' +
          'JavaScript writes it after reading it, for receivers that check the signature of what they parsed. Default ' +
          '`published`.',
      }),
    ),
  },
  { additionalProperties: false },
);

export type SignatureSettings = Static<typeof SignatureSettingsSchema>;

/** Which signatures a webhook's deliveries carry, with every choice made. */
export type SignatureConfig = Required<Omit<SignatureSettings, 'prefix'>> & {
  /** null: as `method` says, whichever it is. */
  prefix: string | null;
};

export const DEFAULT_SIGNATURE: SignatureConfig = {
  standard: true,
  asymmetric: false,
  method: 'none',
  header: 'X-Webhook-Signature',
  prefix: null,
  encoding: 'hex',
  body_spelling: 'published',
};

/**
 * What is wrong with `settings`, beyond its schema: the header must not be one that means something else in a
 * delivery. Undefined when nothing is.
 */
export function signatureSettingsProblem(settings: SignatureSettings): string | undefined {
  const header = settings.header?.toLowerCase();
  if (header === undefined) return undefined;
  if (!RESERVED_HEADERS.has(header) && !/^(webhook|ce)-/.test(header)) return undefined;
  return `the header "${settings.header}" has another meaning in a delivery; choose another, such as "X-Webhook-Signature"`;
}

const RESERVED_HEADERS = new Set([
  'authorization',
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'cookie',
  'date',
  'expect',
  'host',
  'keep-alive',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'user-agent',
  'x-webhook-attempt',
  'x-webhook-batch-size',
  'x-webhook-delivery',
  'x-webhook-event',
  'x-webhook-event-ids',
]);
