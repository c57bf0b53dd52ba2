import { expect, test } from 'vitest';
import { systemClock } from '../kernel/clock.ts';
import { createRefusedKeys } from './refused-keys.ts';

test('a refused key is remembered for five seconds', () => {
  let ms = 0;
  const refused = createRefusedKeys({ ...systemClock, monotonicMs: () => ms });
  refused.add('a');
  ms = 4999;
  expect([refused.has('a'), refused.has('b')]).toEqual([true, false]);
  ms = 5000;
  expect(refused.has('a')).toBe(false);
});

test('a flood of keys keeps the latest thousand and no more', () => {
  const refused = createRefusedKeys({ ...systemClock, monotonicMs: () => 0 });
  for (let count = 0; count < 5000; count += 1) refused.add(`key-${count}`);
  const kept = Array.from({ length: 5000 }, (_, count) => refused.has(`key-${count}`));
  expect(kept.filter(Boolean)).toHaveLength(1000);
  expect(kept[3999]).toBe(false);
  expect(kept[4000]).toBe(true);
});
