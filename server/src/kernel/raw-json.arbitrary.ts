import fc from 'fast-check';

/** JSON texts as no serialiser writes them, for property tests: each spells its value in one of many ways. */
export const jsonTexts = fc.letrec<{ value: string; array: string; object: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    scalarText(),
    { weight: 1, arbitrary: tie('array') },
    { weight: 2, arbitrary: tie('object') },
  ),
  array: fc.array(padded(tie('value')), { maxLength: 4 }).map((values) => `[${values.join(',')}]`),
  object: fc
    .array(fc.tuple(padded(nameText()), padded(tie('value'))), { maxLength: 5 })
    .map((members) => `{${members.map(([name, value]) => `${name}:${value}`).join(',')}}`),
}));

/**
 * A member name in quotes; some are spelled with escapes, some change objects built carelessly.
 *
 * None holds a backslash as a character: once V8 14.6 has parsed such a name, its JSON.parse takes another escaped name
 * of the same length for it, and what these tests compare with would be wrong. (Parse {"a":0,"\\":1}, then {"a":0,"\"":1}:
 * the second has the name of the first.) The program itself hands on bytes, not what JSON.parse made of them.
 */
export function nameText(): fc.Arbitrary<string> {
  return fc.oneof(
    fc.constantFrom('"data"', '"d\\u0061ta"', '"__proto__"', '"constructor"', '"toString"', '""', '"event"', '"a"'),
    stringText().filter((text) => !text.includes('\\\\')),
  );
}

/** JSON white space, which may stand around every token. */
export function whitespace(): fc.Arbitrary<string> {
  return fc.array(fc.constantFrom(' ', '\n', '\r', '\t'), { maxLength: 2 }).map((parts) => parts.join(''));
}

function padded(text: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return fc.tuple(whitespace(), text, whitespace()).map((parts) => parts.join(''));
}

function scalarText(): fc.Arbitrary<string> {
  return fc.oneof(
    fc.constantFrom('true', 'false', 'null', '0', '-0', '1.0', '1e400', '12345678901234567890', '1E+2', '-0.50e-07'),
    stringText(),
  );
}

function stringText(): fc.Arbitrary<string> {
  const piece = fc.oneof(
    fc.constantFrom(
      '\\"',
      '\\\\',
      '\\/',
      '\\n',
      '\\u2028',
      '\u2028',
      '\\ud800',
      '\\u0000',
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
    ),
    fc.constantFrom('\u007f', 'é', '漢', '😀', ' ', 'a', 'event', 'timestamp', 'retry_count'),
  );
  return fc.array(piece, { maxLength: 5 }).map((pieces) => `"${pieces.join('')}"`);
}
