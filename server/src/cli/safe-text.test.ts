import fc from 'fast-check';
import { expect, test } from 'vitest';
import { printable, printableLines } from './safe-text.ts';

/** Any code points, lone surrogates and control characters too. */
const anyText = fc.string({ unit: fc.integer({ min: 0, max: 0x10ffff }).map((code) => String.fromCodePoint(code)) });

test('escape sequences, bells and C1 controls of a payload become visible text', () => {
  expect(printable('\u001b[2J\u0007\u009b31m\u007f')).toBe('\\u001b[2J\\u0007\\u009b31m\\u007f');
  expect(printable('\u001b]0;title\u0007')).toBe('\\u001b]0;title\\u0007');
});

test('characters that reorder or hide text become visible', () => {
  expect(printable('a\u202eb\u2066c\u200bd\ufeffe\u2028f')).toBe('a\\u202eb\\u2066c\\u200bd\\ufeffe\\u2028f');
  expect(printable('\u{e0041}')).toBe('\\u{e0041}');
  expect(printable('\ud800x')).toBe('\\ud800x');
});

test('ordinary text of any script stays as it is', () => {
  const text = 'Grüße, 你好, שלום, 👩‍👩‍👧 می‌خواهم';
  expect(printable(text)).toBe(text);
});

test('a single line stays a single line, and lines stay lines', () => {
  expect(printable('a\r\nb')).toBe('a\\u000d\\u000ab');
  expect(printableLines('a\r\nb\n\tc\rd')).toBe('a\nb\n  c\\u000dd');
});

test('no text whatsoever brings a control character through', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      expect(printable(text)).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\u202a-\u202e\u2066-\u2069]/u);
      expect(printableLines(text).replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]/u);
    }),
  );
});
