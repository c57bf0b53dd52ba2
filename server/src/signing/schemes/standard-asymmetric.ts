import { sign } from 'node:crypto';
import { readPrivateKey } from '../key-pairs.ts';
import type { SigningScheme } from '../scheme.ts';

/**
 * `v1a` of Standard Webhooks: `v1a,` and the base64 of the ed25519 signature of `<id>.<timestamp>.<body>`, one for each
 * private key that counts. Ed25519 reads its message twice (RFC 8032, section 5.1.6), so the message has to be put
 * together. About 70 us a signature, 20 times an HMAC.
 */
export const standardAsymmetric: SigningScheme = {
  name: 'standard_asymmetric',
  header: 'webhook-signature',
  prepare({ privateKeys }) {
    const keys = privateKeys.map(readPrivateKey);
    if (keys.length === 0) throw new Error('The "standard_asymmetric" signing scheme needs a private key.');
    return (prefix, body) => {
      const message = Buffer.concat([Buffer.from(prefix), body]);
      return keys.map((key) => `v1a,${sign(null, message, key).toString('base64')}`).join(' ');
    };
  },
};
