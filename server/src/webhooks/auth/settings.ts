import { createPrivateKey, X509Certificate } from 'node:crypto';
import tls from 'node:tls';
import { type Static, Type } from 'typebox';
import type { FieldProblem } from '../../kernel/errors.ts';
import type { Masker } from '../../masking/masker.ts';
import { MASK } from '../../masking/rules.ts';
import { URL_LENGTH_MAX } from '../egress/judge-url.ts';
import { headerProblem } from '../headers.ts';
import { changeable } from '../nullable.ts';

/** How requests prove to the receiver who sends them, beside their signature. */
export type AuthSettings =
  | { readonly type: 'none' }
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  | { readonly type: 'bearer'; readonly token: string }
  | { readonly type: 'api_key'; readonly header: string; readonly value: string }
  | {
      readonly type: 'jwt';
      readonly secret: string;
      readonly claims: Readonly<Record<string, unknown>>;
      readonly lifetime_seconds: number;
    }
  | OAuth2Settings
  | { readonly type: 'mtls'; readonly certificate: string; readonly private_key: string };

/** The client credentials grant (RFC 6749, section 4.4). */
export interface OAuth2Settings {
  readonly type: 'oauth2_client_credentials';
  readonly token_url: string;
  readonly client_id: string;
  readonly client_secret: string;
  readonly scope?: string;
  readonly audience?: string;
  /** Where the client's id and secret stand (RFC 6749, section 2.3.1). */
  readonly client_authentication: 'basic' | 'body';
}

export const NO_AUTH: AuthSettings = { type: 'none' };

type AuthType = AuthSettings['type'];

interface Member {
  /** Never shown; the mask in its place keeps it. */
  secret?: true;
  optional?: true;
  byDefault?: unknown;
}

/** What each kind has; the schema has the members of all. */
const MEMBERS: Record<AuthType, Record<string, Member>> = {
  none: {},
  basic: { username: {}, password: { secret: true } },
  bearer: { token: { secret: true } },
  api_key: { header: { byDefault: 'X-API-Key' }, value: { secret: true } },
  jwt: { secret: { secret: true }, claims: { byDefault: {} }, lifetime_seconds: { byDefault: 300 } },
  oauth2_client_credentials: {
    token_url: {},
    client_id: {},
    client_secret: { secret: true },
    scope: { optional: true },
    audience: { optional: true },
    client_authentication: { byDefault: 'basic' },
  },
  mtls: { certificate: {}, private_key: { secret: true } },
};

const secret = (maxLength: number, description: string) =>
  Type.String({ minLength: 1, maxLength, description: `${description} Write-only: answers have "***".` });
const plain = (maxLength: number, description: string) => Type.String({ minLength: 1, maxLength, description });

const fields = {
  type: Type.Unsafe<AuthType>({
    type: 'string',
    enum: Object.keys(MEMBERS),
    description:
      '`none` (default); `basic`: `username`, `password`; `bearer`: `token`; `api_key`: `value` in `header`; `jwt`: a ' +
      'token of `claims`, signed with `secret` for each attempt; `oauth2_client_credentials`: a token from `token_url`; ' +
      '`mtls`: a client `certificate` with its `private_key`.',
  }),
  username: plain(256, 'Of `basic`; without a colon.'),
  password: secret(1_024, 'Of `basic`.'),
  token: secret(4_096, 'Of `bearer`.'),
  header: plain(200, 'Of `api_key`. Default `X-API-Key`.'),
  value: secret(4_096, 'Of `api_key`.'),
  secret: secret(1_024, 'Of `jwt`, 32 characters or more: the key of HS256.'),
  claims: Type.Unsafe<Record<string, unknown>>({
    type: 'object',
    additionalProperties: true,
    description: 'Of `jwt`, at most 2 KB. `iat`, `exp` and `jti` are added. Replaced as a whole.',
  }),
  lifetime_seconds: Type.Integer({
    minimum: 10,
    maximum: 86_400,
    description: 'Of `jwt`: from `iat` to `exp`. Default 300.',
  }),
  token_url: plain(URL_LENGTH_MAX, 'Of `oauth2_client_credentials`. Judged as `url` is.'),
  client_id: plain(512, 'Of `oauth2_client_credentials`.'),
  client_secret: secret(1_024, 'Of `oauth2_client_credentials`.'),
  scope: plain(1_024, 'Of `oauth2_client_credentials`; names with spaces between them.'),
  audience: plain(1_024, 'Of `oauth2_client_credentials`, for token URLs that ask for it.'),
  client_authentication: Type.Unsafe<OAuth2Settings['client_authentication']>({
    type: 'string',
    enum: ['basic', 'body'],
    description:
      'Of `oauth2_client_credentials`: where id and secret stand, in HTTP Basic or in the body. Default `basic`.',
  }),
  certificate: plain(65_536, 'Of `mtls`: PEM, the own certificate first, then those that lead to the authority.'),
  private_key: secret(16_384, 'Of `mtls`: PEM, not encrypted.'),
};

/** `auth` in a request: merged while `type` stays the same, replaced when it changes; null is `none`. */
export const AuthInput = Type.Object(changeable(fields), { additionalProperties: false });
export type AuthInput = Static<typeof AuthInput>;

/** `auth` in an answer: the members of its kind, secrets masked. */
export const AuthShown = Type.Object({
  type: fields.type,
  username: Type.Optional(Type.String()),
  password: Type.Optional(Type.String()),
  token: Type.Optional(Type.String()),
  header: Type.Optional(Type.String()),
  value: Type.Optional(Type.String()),
  secret: Type.Optional(Type.String()),
  claims: Type.Optional(fields.claims),
  lifetime_seconds: Type.Optional(Type.Integer()),
  token_url: Type.Optional(Type.String()),
  client_id: Type.Optional(Type.String()),
  client_secret: Type.Optional(Type.String()),
  scope: Type.Optional(Type.String()),
  audience: Type.Optional(Type.String()),
  client_authentication: Type.Optional(Type.String()),
  certificate: Type.Optional(Type.String()),
  private_key: Type.Optional(Type.String()),
});
export type AuthShown = Static<typeof AuthShown>;

type AuthChange = { ok: true; auth: AuthSettings } | { ok: false; problems: FieldProblem[] };

/** The settings after a change, whole and checked. The token URL is judged elsewhere. */
export function changeAuth(current: AuthSettings, given: AuthInput | null): AuthChange {
  if (given === null) return { ok: true, auth: NO_AUTH };
  const type = given.type === null ? NO_AUTH.type : (given.type ?? current.type);
  const members = MEMBERS[type];
  const before = (type === current.type ? current : {}) as Readonly<Record<string, unknown>>;
  const next: Record<string, unknown> = { type };
  const problems: FieldProblem[] = [];
  const problem = (name: string, message: string) => problems.push({ path: `auth.${name}`, message });
  for (const [name, value] of Object.entries(given)) {
    if (name !== 'type' && value !== null && !Object.hasOwn(members, name))
      problem(name, `does not belong to "${type}"`);
  }
  for (const [name, { secret, optional, byDefault }] of Object.entries(members)) {
    let value = given[name as keyof AuthInput] as unknown;
    if (secret === true && value === MASK) {
      value = before[name];
      if (value === undefined) problem(name, `is not set, so ${MASK} stands for nothing here; give the value itself`);
    } else if (value === undefined) value = before[name];
    value ??= byDefault;
    if (value !== undefined) next[name] = value;
    else if (optional !== true && given[name as keyof AuthInput] !== MASK) problem(name, `is required for "${type}"`);
  }
  if (problems.length > 0) return { ok: false, problems };
  const auth = next as unknown as AuthSettings;
  for (const [name, message] of Object.entries(valueProblems(auth))) problem(name, message);
  return problems.length > 0 ? { ok: false, problems } : { ok: true, auth };
}

/** The name of the header that carries it, as it is written; undefined: none. */
export function authHeaderOf(auth: AuthSettings): string | undefined {
  if (auth.type === 'none' || auth.type === 'mtls') return undefined;
  return auth.type === 'api_key' ? auth.header : 'Authorization';
}

/** The settings as the API shows them. */
export function showAuth(auth: AuthSettings, masker: Masker): AuthShown {
  return withoutSecrets(
    auth,
    (value) => {
      if (typeof value === 'string') return masker.text(value);
      return typeof value === 'object' ? JSON.parse(masker.json(JSON.stringify(value))) : value;
    },
    () => MASK,
  );
}

/** The settings with what `hide` makes of each secret, and what `show` makes of everything else. */
export function withoutSecrets(
  auth: AuthSettings,
  show: (value: unknown) => unknown,
  hide: (value: string) => unknown,
): AuthShown {
  const members = MEMBERS[auth.type];
  const entries = Object.entries(auth).map(([name, value]) => [
    name,
    name === 'type' ? value : members[name]?.secret === true ? hide(value as string) : show(value),
  ]);
  return Object.fromEntries(entries) as AuthShown;
}

/** What PostgreSQL, a header or a parser would not take, by member. */
function valueProblems(auth: AuthSettings): Record<string, string> {
  switch (auth.type) {
    case 'none':
      return {};
    case 'basic':
      // RFC 7617, section 2.
      return {
        ...(/[:\p{Cc}]/u.test(auth.username) && { username: 'must have no colon and no control characters' }),
        ...(/\p{Cc}/u.test(auth.password) && { password: 'must have no control characters' }),
      };
    case 'bearer':
      return /^[\x21-\x7e]+$/.test(auth.token) ? {} : { token: 'must be of visible ASCII characters' };
    case 'api_key': {
      const header = headerProblem(auth.header, '');
      const value = headerProblem('x', auth.value);
      return { ...(header !== undefined && { header }), ...(value !== undefined && { value }) };
    }
    case 'jwt':
      return {
        ...claimsProblem(auth.claims),
        ...(auth.secret.length < 32 && { secret: 'must have 32 characters or more' }),
      };
    case 'oauth2_client_credentials':
      return {
        ...(auth.scope !== undefined && !/^[\x20-\x7e]+$/.test(auth.scope) && { scope: 'must be of visible ASCII' }),
      };
    case 'mtls':
      return certificateProblem(auth.certificate, auth.private_key);
  }
}

const CLAIMS_BYTES_MAX = 2_048;
const OWN_CLAIMS = ['iat', 'exp', 'jti'];

function claimsProblem(claims: object): Record<string, string> {
  if (Buffer.byteLength(JSON.stringify(claims)) > CLAIMS_BYTES_MAX) {
    return { claims: `must be at most ${CLAIMS_BYTES_MAX} bytes of JSON` };
  }
  const own = OWN_CLAIMS.find((name) => Object.hasOwn(claims, name));
  return own === undefined ? {} : { claims: `must not have "${own}", which Posthorn sets itself` };
}

function certificateProblem(certificate: string, privateKey: string): Record<string, string> {
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(certificate);
  } catch {
    return { certificate: 'must be a certificate in PEM' };
  }
  let key: ReturnType<typeof createPrivateKey>;
  try {
    key = createPrivateKey(privateKey);
  } catch {
    return { private_key: 'must be a private key in PEM that is not encrypted' };
  }
  if (!leaf.checkPrivateKey(key)) return { private_key: 'is not the key of the certificate' };
  try {
    // What else it refuses: keys too short, certificates behind the first that are none.
    tls.createSecureContext({ cert: certificate, key: privateKey });
  } catch {
    return { certificate: 'cannot be used for TLS' };
  }
  return {};
}
