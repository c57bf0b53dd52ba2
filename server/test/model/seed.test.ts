import { expect, test } from 'vitest';
import { chooseSeed } from './seed.ts';

const chosen = (env: NodeJS.ProcessEnv) => new Set(Array.from({ length: 20 }, () => chooseSeed(env)));

test('in CI the same runs are played each time, elsewhere others, and those that are asked for wherever it is', () => {
  expect(chosen({ CI: 'true' }).size).toBe(1);
  expect(chosen({}).size).toBeGreaterThan(15);
  expect(chosen({ CI: '' }).size).toBeGreaterThan(15);
  expect(chosen({ CI: 'true', MODEL_SEED: '7' })).toEqual(new Set([7]));
  expect(chosen({ MODEL_SEED: '7' })).toEqual(new Set([7]));
});
