import { globSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { FAULTY, SPARED, STEPS } from './faulty-statements.ts';

const SOURCES = fileURLToPath(new URL('../../src/', import.meta.url));

/** The statements of the engine that are written by hand, by what their modules export. */
async function statementNames(): Promise<string[]> {
  const files = globSync(['delivery/**/sql.ts', 'delivery/**/sql/*.ts', 'events/**/sql/*.ts'], { cwd: SOURCES });
  const modules = await Promise.all(files.map((file): Promise<object> => import(SOURCES + file)));
  return modules.flatMap((module) => Object.values(module).flatMap(namesIn));
}

/** An exported statement, one for a table that is to be named, or those in an exported list or record of some. */
function namesIn(exported: unknown): string[] {
  if (typeof exported === 'function') return namesIn(exported('…'));
  if (typeof exported !== 'object' || exported === null) return [];
  if ('name' in exported && typeof exported.name === 'string') return [exported.name];
  return Object.values(exported).flatMap(namesIn);
}

test('each statement of the engine may fail in a run of the model, or is spared for a reason', async () => {
  const names = await statementNames();
  expect(names.length).toBeGreaterThan(15);
  const known: string[] = [...FAULTY, ...Object.keys(SPARED), ...Object.keys(STEPS)];
  expect(names.filter((name) => !known.includes(name))).toEqual([]);
  expect(Object.keys(SPARED).filter((name) => (FAULTY as readonly string[]).includes(name))).toEqual([]);
});
