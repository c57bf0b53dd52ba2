import { createHash, createHmac, createSecretKey } from 'node:crypto';
import type { AuthSettings, OAuth2Settings } from './settings.ts';

/** What attempts need of a webhook's `auth`. */
export type Credentials =
  | { readonly kind: 'none' }
  /** The same for all requests. */
  | { readonly kind: 'header'; readonly name: string; readonly value: string }
  /** Made for each attempt; `id` is the token's `jti`. */
  | { readonly kind: 'jwt'; sign(id: string, nowMs: number): string }
  /** `fingerprint`: differs when anything of the settings does. */
  | { readonly kind: 'oauth2'; readonly settings: OAuth2Settings; readonly fingerprint: string }
  | { readonly kind: 'certificate'; readonly certificate: ClientCertificate };

/** A client certificate of one webhook. The object lives as long as the webhook is unchanged. */
export interface ClientCertificate {
  /** Names webhook, certificate and key: connections that differ in it are never shared. */
  readonly id: string;
  readonly certificate: string;
  readonly privateKey: string;
}

export function credentialsOf(auth: AuthSettings, webhookId: string): Credentials {
  switch (auth.type) {
    case 'none':
      return { kind: 'none' };
    case 'basic': {
      const value = `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString('base64')}`;
      return { kind: 'header', name: 'Authorization', value };
    }
    case 'bearer':
      return { kind: 'header', name: 'Authorization', value: `Bearer ${auth.token}` };
    case 'api_key':
      return { kind: 'header', name: auth.header, value: auth.value };
    case 'jwt':
      return { kind: 'jwt', sign: jwtSigner(auth) };
    case 'oauth2_client_credentials':
      return { kind: 'oauth2', settings: auth, fingerprint: digest(JSON.stringify(auth)) };
    case 'mtls': {
      const { certificate, private_key: privateKey } = auth;
      const id = `${webhookId}/${digest(`${certificate}\0${privateKey}`)}`;
      return { kind: 'certificate', certificate: { id, certificate, privateKey } };
    }
  }
}

/** The name of the header that requests carry a credential in; undefined: in none. */
export function authHeaderNameOf(credentials: Credentials): string | undefined {
  if (credentials.kind === 'header') return credentials.name;
  return credentials.kind === 'jwt' || credentials.kind === 'oauth2' ? 'Authorization' : undefined;
}

/** A JSON Web Token (RFC 7519) signed with HS256. It takes 5 us. */
function jwtSigner(auth: Extract<AuthSettings, { type: 'jwt' }>) {
  const key = createSecretKey(Buffer.from(auth.secret));
  const ahead = Math.min(IAT_BACK_SECONDS_MAX, Math.floor(auth.lifetime_seconds / 5));
  return (id: string, nowMs: number): string => {
    const iat = Math.floor(nowMs / 1000) - ahead;
    const payload = JSON.stringify({ ...auth.claims, iat, exp: iat + auth.lifetime_seconds, jti: id });
    const signed = `${JWT_HEAD}.${Buffer.from(payload).toString('base64url')}`;
    return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
  };
}

/**
 * How far back `iat` is set. PyJWT, which call-center.md verifies tokens with, refuses one from the future, so a receiver
 * whose clock is a second behind would refuse every delivery.
 */
const IAT_BACK_SECONDS_MAX = 30;

const JWT_HEAD = Buffer.from('{"alg":"HS256","typ":"JWT"}').toString('base64url');

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
