import fc from 'fast-check';
import { expect, test } from 'vitest';
import { slugFromName } from './slug.ts';
import { SLUG_PATTERN } from './types.ts';

test.each([
  ['Acme', 'acme'],
  ['Café Über 24', 'cafe-uber-24'],
  ['  --Acme, Inc.--  ', 'acme-inc'],
  ['../../etc/passwd', 'etc-passwd'],
  ['__proto__', 'proto'],
  ['ｆｕｌｌ', 'full'],
  ['日本', undefined],
  ['', undefined],
  [`${'a'.repeat(62)} b`, 'a'.repeat(62)],
])('the name %j gives the slug %j', (name, slug) => {
  expect(slugFromName(name)).toBe(slug);
});

test('every slug made of a name is a valid one', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 100 }), (name) => {
      const slug = slugFromName(name);
      expect(slug === undefined || new RegExp(SLUG_PATTERN).test(slug)).toBe(true);
    }),
  );
});
