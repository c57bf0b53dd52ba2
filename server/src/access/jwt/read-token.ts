import { isUtf8 } from 'node:buffer';

/** A JWT taken apart. Nothing of it is proven yet. */
export interface UnverifiedToken {
  /** The compact form (RFC 7519, section 3). */
  text: string;
  algorithm: string;
  keyId: string | undefined;
  claims: Readonly<Record<string, unknown>>;
}

/** Whether a text has the form of a signed JWT: three parts in base64url. An encrypted one has five. */
export function looksLikeToken(text: string): boolean {
  return TOKEN.test(text);
}

const TOKEN = /^ey[\w-]+\.ey[\w-]+\.[\w-]+$/;

/**
 * Takes a JWT apart; undefined for one that no issuer could have meant for us, whoever signed it:
 *
 * - `crit` asks for extensions, of which there are none here (RFC 7515, section 4.1.11)
 * - `cty: JWT` holds another token (RFC 7519, section 5.2), and other kinds of tokens, such as a logout token, name
 *   themselves in `typ` (RFC 8725, section 3.11)
 * - members that come twice: two readers could take different ones (RFC 7519, section 4)
 */
export function readToken(text: string): UnverifiedToken | undefined {
  if (!looksLikeToken(text)) return undefined;
  const [headerPart = '', claimsPart = ''] = text.split('.');
  const header = readObject(headerPart);
  const claims = header && readObject(claimsPart);
  if (header === undefined || claims === undefined) return undefined;
  const { alg, kid, typ } = header;
  if (typeof alg !== 'string' || (kid !== undefined && typeof kid !== 'string')) return undefined;
  if (Object.hasOwn(header, 'crit') || Object.hasOwn(header, 'cty') || Object.hasOwn(header, 'b64')) return undefined;
  if (typ !== undefined && !(typeof typ === 'string' && TYPES.test(typ))) return undefined;
  return { text, algorithm: alg, keyId: kid, claims };
}

/** A JWT, or an access token of RFC 9068. */
const TYPES = /^(?:application\/)?(?:jwt|at\+jwt)$/i;

/** The JSON object of a part; undefined when it is none, or has members that come twice. */
function readObject(part: string): Record<string, unknown> | undefined {
  const bytes = Buffer.from(part, 'base64url');
  if (!isUtf8(bytes)) return undefined;
  const text = bytes.toString();
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    // Each member has a colon outside of strings, and of those with one name only the last is in the value.
    const written = text.replace(STRINGS, '').split(':').length - 1;
    return written === countMembers(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

const STRINGS = /"(?:[^"\\]|\\.)*"/g;

function countMembers(root: object): number {
  let count = 0;
  const rest: object[] = [root];
  for (let value = rest.pop(); value !== undefined; value = rest.pop()) {
    if (!Array.isArray(value)) count += Object.keys(value).length;
    for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) rest.push(inner);
  }
  return count;
}
