import { expect, test } from 'vitest';
import { CompiledSchemas } from './compiled-schemas.ts';

test('a schema is compiled once while it is kept', () => {
  const schemas = new CompiledSchemas();
  expect(schemas.check('{"type":"null"}')).toBe(schemas.check('{"type":"null"}'));
  expect(schemas.check('{"type":"null"}')(1)).toHaveLength(1);
});

test('the schema unused for longest makes room', () => {
  const texts = ['{"const":1}', '{"const":2}', '{"const":3}'] as const;
  const schemas = new CompiledSchemas(texts[0].length * 20 * 2);
  const first = schemas.check(texts[0]);
  const second = schemas.check(texts[1]);
  expect(schemas.check(texts[0])).toBe(first);
  schemas.check(texts[2]);
  expect(schemas.check(texts[0])).toBe(first);
  expect(schemas.check(texts[1])).not.toBe(second);
});

test('patterns take their part of the room', () => {
  const schemas = new CompiledSchemas(20_000);
  const first = schemas.check('{"const":1}');
  schemas.check('{"pattern":"a"}');
  expect(schemas.check('{"const":1}')).toBe(first);
  schemas.check('{"pattern":"a{100}"}');
  expect(schemas.check('{"const":1}')).not.toBe(first);
});
