import fc from 'fast-check';
import { expect, test } from 'vitest';
import { testSecretBox } from '../testing/secret-box.ts';
import { readKey } from './credentials.ts';
import { looksLikePortalToken, type PortalClaims, readPortalToken, writePortalToken } from './portal-token.ts';

const box = testSecretBox();

const arbitraryClaims: fc.Arbitrary<PortalClaims> = fc.record(
  {
    tenantId: fc.uuid(),
    environmentId: fc.uuid(),
    owner: fc.string({ minLength: 1, maxLength: 200, unit: 'binary' }),
    access: fc.constantFrom('read', 'manage'),
    expiresAtMs: fc.nat(),
    number: fc.nat(),
  },
  { requiredKeys: ['tenantId', 'environmentId', 'access', 'expiresAtMs', 'number'], noNullPrototype: true },
);

test('it says what was written into it, to the installation that wrote it', () => {
  fc.assert(
    fc.property(arbitraryClaims, (claims) => {
      const token = writePortalToken(box, claims);
      expect(looksLikePortalToken(token)).toBe(true);
      expect(readPortalToken(box, token)).toEqual(claims);
      expect(readPortalToken(testSecretBox(8), token)).toBeUndefined();
    }),
  );
});

test('any other text than the one that was signed says nothing', () => {
  fc.assert(
    fc.property(
      arbitraryClaims,
      fc.nat(),
      fc.constantFrom(...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ '),
      (claims, place, character) => {
        const token = writePortalToken(box, claims);
        // Half of the changes are of the signature's last digit.
        const at = place % 2 === 0 ? token.length - 1 : place % token.length;
        const changed = token.slice(0, at) + character + token.slice(at + 1);
        expect(readPortalToken(box, changed)).toEqual(changed === token ? claims : undefined);
        expect(readPortalToken(box, token.slice(0, at))).toBeUndefined();
      },
    ),
    { numRuns: 1_000 },
  );
});

test('with the longest owner it is still short enough to be read', () => {
  const token = writePortalToken(box, {
    tenantId: '0190aaaa-0000-7000-8000-000000000000',
    environmentId: '0190aaaa-0000-7000-8000-000000000000',
    owner: '\u0001'.repeat(200),
    access: 'manage',
    expiresAtMs: Number.MAX_SAFE_INTEGER,
    number: Number.MAX_SAFE_INTEGER,
  });
  expect(readKey({ authorization: `Bearer ${token}` })).toBe(token);
});
