import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const ROOT = new URL('../../', import.meta.url);
const spec = readFileSync(new URL('server/src/delivery/SPEC.md', ROOT), 'utf8');
const INVARIANT = /^\*\*([DLC]\d+)\. /;

test('every test that SPEC.md names is there', () => {
  const named = [...spec.matchAll(/^- `(server\/[^`]+\.test\.ts)`: "(.+)"$/gm)];
  expect(named.length).toBeGreaterThan(20);
  const missing = named.filter(([, file = '', name = '']) => {
    if (!existsSync(new URL(file, ROOT))) return true;
    return !readFileSync(new URL(file, ROOT), 'utf8').includes(name.replaceAll('\\"', '"'));
  });
  expect(missing.map(([line]) => line)).toEqual([]);
});

test('every invariant of SPEC.md names a test that enforces it', () => {
  const paragraphs = spec.split(/\n\n/).filter((paragraph) => INVARIANT.test(paragraph));
  expect(paragraphs.length).toBeGreaterThanOrEqual(15);
  const unproven = paragraphs.filter((paragraph) => !/\nEnforced by:\n- `/.test(paragraph));
  expect(unproven).toEqual([]);
});
