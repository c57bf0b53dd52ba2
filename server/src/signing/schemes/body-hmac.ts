import type { BodyHmacMethod } from '../config.ts';
import { prepareHmac } from '../hmac.ts';
import type { SigningScheme } from '../scheme.ts';

/**
 * The family of legacy schemes: an HMAC over the body alone, in hex after a label where the webhook says nothing else.
 * The header holds one signature, so the newest secret alone signs. The key is the UTF-8 of the secret's whole text, also
 * when it starts with `whsec_`: the requirement documents' verification code knows nothing of that form.
 */
export function bodyHmac(name: BodyHmacMethod, algorithm: 'sha256' | 'sha1', label: string): SigningScheme {
  return {
    name,
    header: 'own',
    prepare({ secrets: [newest] }, form) {
      if (newest === undefined) throw new Error(`The "${name}" signing scheme needs a secret.`);
      const hmac = prepareHmac(algorithm, Buffer.from(newest));
      const before = form?.prefix ?? label;
      const encoding = form?.encoding ?? 'hex';
      return (_prefix, body) => before + hmac('', body, encoding);
    },
  };
}
