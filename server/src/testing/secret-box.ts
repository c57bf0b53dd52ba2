import { createSecretBox, type SecretBox } from '../kernel/secret-box.ts';

/** A box of one data key, for tests that are not about keys. Boxes of the same `byte` open each other's values. */
export function testSecretBox(byte = 7): SecretBox {
  const key = Buffer.alloc(32, byte);
  return createSecretBox({
    current: { id: 1, key },
    hashing: Buffer.alloc(32, byte + 1),
    portal: Buffer.alloc(32, byte + 2),
    find: (id) => (id === 1 ? key : undefined),
    refresh: async () => {},
  });
}
