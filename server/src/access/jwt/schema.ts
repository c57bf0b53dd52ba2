import { type Static, type TSchema, Type } from 'typebox';
import { formatId } from '../../kernel/ids.ts';
import { DisplayName, Slug } from '../../tenants/types.ts';
import { API_KEY_ROLES } from '../key-roles.ts';
import { JWKS_ALGORITHMS, readClaimNames, readRoles, SECRET_ALGORITHMS } from './issuer.ts';
import type { JwtIssuerRow } from './queries.ts';

export const CLOCK_SKEW_SECONDS = 60;
export const MAX_LIFETIME_SECONDS = 86_400;
export const DEFAULT_ENVIRONMENT = 'production';

/** Bytes of a shared secret at least: RFC 7518, section 3.2, wants as many as the hash has. */
export const SECRET_BYTES_MIN = 32;

/** A text that a claim may hold. */
const ClaimText = Type.String({ minLength: 1, maxLength: 512, pattern: '^[^\\u0000-\\u001f\\u007f]+$' });

const ClaimNamesShown = {
  tenant: Type.String(),
  environment: Type.String(),
  role: Type.String(),
};

const ROLES_DESCRIPTION =
  'From what tokens call a role to what it is here. A role that is not in it is refused. Null: tokens use the names that roles have here.';

/** The fields that a request may set; `required` ones have no default. */
const InputFields = {
  name: DisplayName,
  issuer: Type.String({ ...ClaimText, description: 'The `iss` of the tokens.' }),
  audience: Type.String({ ...ClaimText, description: 'What their `aud` must name.' }),
};

const OptionalFields = {
  secret: Type.Optional(
    nullable(
      Type.String({
        minLength: 1,
        maxLength: 1024,
        description: 'Shared secret for HS256, at least 32 bytes of UTF-8. It is never shown. This or `jwks_url`.',
      }),
    ),
  ),
  jwks_url: Type.Optional(
    nullable(
      Type.String({
        maxLength: 2048,
        description: 'Where the public keys are (RFC 7517), for RS256, ES256 and EdDSA.',
      }),
    ),
  ),
  tenant: Type.Optional(
    nullable(
      Type.String({
        maxLength: 100,
        description: 'Id or slug of the only tenant that the issuer speaks for. Null: each token names its tenant.',
      }),
    ),
  ),
  clock_skew_seconds: Type.Optional(
    nullable(
      Type.Integer({ minimum: 0, maximum: 300, description: `How far clocks may differ (${CLOCK_SKEW_SECONDS}).` }),
    ),
  ),
  max_lifetime_seconds: Type.Optional(
    nullable(
      Type.Integer({
        minimum: 60,
        maximum: 2_592_000,
        description: `Tokens that live longer are refused (${MAX_LIFETIME_SECONDS}).`,
      }),
    ),
  ),
  claims: Type.Optional(
    nullable(
      Type.Object(
        {
          tenant: Type.Optional(nullable(ClaimText)),
          environment: Type.Optional(nullable(ClaimText)),
          role: Type.Optional(nullable(ClaimText)),
        },
        {
          additionalProperties: false,
          description:
            'Names of the claims (`tenant`, `environment`, `role`). A dot leads into an object: `realm_access.roles`.',
        },
      ),
    ),
  ),
  roles: Type.Optional(
    Type.Unsafe<Record<string, string> | null>({
      type: ['object', 'null'],
      propertyNames: { minLength: 1, maxLength: 512 },
      maxProperties: 100,
      additionalProperties: { type: 'string', enum: [...API_KEY_ROLES] },
      description: ROLES_DESCRIPTION,
    }),
  ),
  default_role: Type.Optional(
    Type.Unsafe<string | null>({
      type: ['string', 'null'],
      enum: [...API_KEY_ROLES, null],
      description: 'Of tokens without a role. Null: they are refused.',
    }),
  ),
  default_environment: Type.Optional(
    nullable(Type.String({ ...Slug, description: `Of tokens without an environment (\`${DEFAULT_ENVIRONMENT}\`).` })),
  ),
};

export const NewIssuer = Type.Object({ ...InputFields, ...OptionalFields }, { additionalProperties: false });
export type NewIssuer = Static<typeof NewIssuer>;

export const IssuerChange = Type.Object(
  {
    name: Type.Optional(InputFields.name),
    issuer: Type.Optional(InputFields.issuer),
    audience: Type.Optional(InputFields.audience),
    ...OptionalFields,
  },
  { additionalProperties: false },
);
export type IssuerChange = Static<typeof IssuerChange>;

const NullableText = Type.Unsafe<string | null>({ type: ['string', 'null'] });

export const IssuerShown = Type.Object({
  id: Type.String({ description: 'TypeID, `iss_…`.' }),
  name: Type.String(),
  issuer: Type.String(),
  audience: Type.String(),
  algorithms: Type.Array(Type.String(), { description: 'HS256 with a shared secret, the others with a `jwks_url`.' }),
  jwks_url: NullableText,
  tenant: Type.Unsafe<string | null>({ type: ['string', 'null'], description: 'TypeID, `tnt_…`.' }),
  clock_skew_seconds: Type.Integer(),
  max_lifetime_seconds: Type.Integer(),
  claims: Type.Object(ClaimNamesShown),
  roles: Type.Unsafe<Record<string, string> | null>({
    type: ['object', 'null'],
    additionalProperties: { type: 'string' },
    description: ROLES_DESCRIPTION,
  }),
  default_role: NullableText,
  default_environment: Type.String(),
  created_at: Type.String({ format: 'date-time' }),
  updated_at: Type.String({ format: 'date-time' }),
});

export function showIssuer(row: JwtIssuerRow): Static<typeof IssuerShown> {
  return {
    id: formatId('jwtIssuer', row.id),
    name: row.name,
    issuer: row.issuer,
    audience: row.audience,
    algorithms: [...(row.secret_box === null ? JWKS_ALGORITHMS : SECRET_ALGORITHMS)],
    jwks_url: row.jwks_url,
    tenant: row.tenant_id === null ? null : formatId('tenant', row.tenant_id),
    clock_skew_seconds: row.clock_skew_seconds,
    max_lifetime_seconds: row.max_lifetime_seconds,
    claims: readClaimNames(row.claims),
    roles: readRoles(row.roles),
    default_role: row.default_role,
    default_environment: row.default_environment,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

function nullable<T extends TSchema & { type?: string }>(schema: T) {
  return Type.Unsafe<Static<T> | null>({ ...schema, type: [schema.type, 'null'] });
}
