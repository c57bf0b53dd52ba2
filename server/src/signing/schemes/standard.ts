import { type Hmac, prepareHmac } from '../hmac.ts';
import type { SigningScheme } from '../scheme.ts';
import { standardKeyBytes } from '../secrets.ts';

/**
 * `v1` of Standard Webhooks: `v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`. While several secrets
 * count, there is one signature for each, newest first and separated by a space, so that a receiver verifies with
 * whichever it has. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export const standard: SigningScheme = {
  name: 'standard',
  header: 'webhook-signature',
  prepare({ secrets }) {
    const [first, ...others] = secrets.map((secret) => prepareHmac('sha256', standardKeyBytes(secret)));
    if (first === undefined) throw new Error('The "standard" signing scheme needs a secret.');
    return (prefix, body) => {
      let signatures = signV1(first, prefix, body);
      for (const key of others) signatures += ` ${signV1(key, prefix, body)}`;
      return signatures;
    };
  },
};

/** One `v1` signature, with the HMAC of a secret. */
export function signV1(hmac: Hmac, prefix: string, body: Buffer): string {
  return `v1,${hmac(prefix, body, 'base64')}`;
}
