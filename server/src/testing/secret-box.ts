import pg from 'pg';
import { KeyRing } from '../encryption/key-ring.ts';
import { openKeyRows, readKeyRows } from '../encryption/key-rows.ts';
import { masterKey } from '../encryption/master-keys.ts';
import { mustBeOpened } from '../encryption/prepare-keys.ts';
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

/** The box of a program that runs on a database, as `startTestPosthorn` starts one. */
export async function secretBoxOf(connection: pg.ClientConfig): Promise<SecretBox> {
  const pool = new pg.Pool({ ...connection, max: 1 });
  try {
    const ring = new KeyRing();
    ring.take(mustBeOpened(openKeyRows(await readKeyRows(pool), [masterKey(Buffer.alloc(32, 7))])).keys);
    return createSecretBox(ring);
  } finally {
    await pool.end();
  }
}
