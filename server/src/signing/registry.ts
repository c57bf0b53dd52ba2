import type { SignatureConfig } from './config.ts';
import type { SigningScheme } from './scheme.ts';
import { hmacSha1 } from './schemes/hmac-sha1.ts';
import { hmacSha256 } from './schemes/hmac-sha256.ts';
import { hmacSha256Hex } from './schemes/hmac-sha256-hex.ts';
import { standard } from './schemes/standard.ts';
import { standardAsymmetric } from './schemes/standard-asymmetric.ts';

/** Every signing scheme, by name. A new one is its file and its line here (and its name in `config.ts`). */
export const SIGNING_SCHEMES = {
  standard,
  standard_asymmetric: standardAsymmetric,
  hmac_sha256_hex: hmacSha256Hex,
  hmac_sha256: hmacSha256,
  hmac_sha1: hmacSha1,
} satisfies Record<string, SigningScheme>;

export type SchemeName = keyof typeof SIGNING_SCHEMES;

/** The schemes that a configuration asks for, in the order in which their signatures are sent. */
export function schemesOf(config: SignatureConfig): SigningScheme[] {
  const names: SchemeName[] = [];
  if (config.standard) names.push('standard');
  if (config.asymmetric) names.push('standard_asymmetric');
  if (config.method !== 'none') names.push(config.method);
  return names.map((name) => SIGNING_SCHEMES[name]);
}
