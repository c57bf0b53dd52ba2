import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { prepareHmac } from './hmac.ts';

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));

test('it is the HMAC of RFC 2104 for keys and messages of any length, and each call starts anew', () => {
  const prefixes = fc.string({ unit: 'binary' });
  const messages = fc.array(fc.tuple(prefixes, bytes(300)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(bytes(150), fc.constantFrom('sha1', 'sha256'), messages, (key, algorithm, all) => {
      const hmac = prepareHmac(algorithm, key);
      for (const [prefix, body] of all) {
        const expected = createHmac(algorithm, key).update(prefix).update(body).digest();
        expect(hmac(prefix, body, 'hex')).toBe(expected.toString('hex'));
        expect(hmac(prefix, body, 'base64')).toBe(expected.toString('base64'));
      }
    }),
  );
});

test.each([
  ['0b'.repeat(20), 'Hi There', 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'],
  [
    'aa'.repeat(131),
    'Test Using Larger Than Block-Size Key - Hash Key First',
    '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54',
  ],
])('it gives the values of RFC 4231', (key, message, expected) => {
  expect(prepareHmac('sha256', Buffer.from(key, 'hex'))('', Buffer.from(message), 'hex')).toBe(expected);
});
