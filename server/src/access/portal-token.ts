import type { PortalAccess } from '../http/permissions.ts';
import type { SecretBox } from '../kernel/secret-box.ts';

/** How long a portal token may live, in seconds. */
export const PORTAL_TOKEN_SECONDS = { default: 3_600, min: 60, max: 86_400 } as const;

/** What a portal token says. It is in the token itself, readable by whoever has it, and signed. */
export interface PortalClaims {
  /** UUIDs. */
  tenantId: string;
  environmentId: string;
  /** Never empty; absent: all webhooks of the environment. */
  owner?: string;
  access: PortalAccess;
  /** Milliseconds since the epoch. */
  expiresAtMs: number;
  /** Where the numbers of revocations stood when it was made: later ones end it. */
  number: number;
}

const PREFIX = 'ph_portal_';

/** `ph_portal_`, what it says as base64url of JSON, a dot, and 256 bits of signature. */
const PORTAL_TOKEN_PATTERN = /^ph_portal_([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})$/;

export function looksLikePortalToken(text: string): boolean {
  return text.startsWith(PREFIX);
}

export function writePortalToken(box: SecretBox, claims: PortalClaims): string {
  const content = Buffer.from(JSON.stringify(claims)).toString('base64url');
  return `${PREFIX}${content}.${box.sign(content).toString('base64url')}`;
}

/** Undefined for what this installation did not sign, to the last bit. Measured: 4.4 us. */
export function readPortalToken(box: SecretBox, token: string): PortalClaims | undefined {
  const [, content = '', signatureText = ''] = PORTAL_TOKEN_PATTERN.exec(token) ?? [];
  const signature = Buffer.from(signatureText, 'base64url');
  // The last digit of 43 has two bits to spare: only one of its spellings is the token.
  if (signature.toString('base64url') !== signatureText || !box.isSigned(content, signature)) return undefined;
  return JSON.parse(Buffer.from(content, 'base64url').toString('utf8')) as PortalClaims;
}
