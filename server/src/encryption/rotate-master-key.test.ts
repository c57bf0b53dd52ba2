import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../kernel/clock.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { makeTemporaryDirectory } from '../testing/temporary-directory.ts';
import { KEY_FILE, type MasterKeySource, NEXT_KEY_FILE, readKeyFile, readMasterKeys } from './key-files.ts';
import { openKeyRows, readKeyRows } from './key-rows.ts';
import { mustBeOpened, prepareKeys } from './prepare-keys.ts';
import { rotateMasterKey } from './rotate-master-key.ts';

let database: TestDatabase;
let pool: pg.Pool;
let folder: string;
let source: MasterKeySource;

beforeAll(async () => {
  database = await createTestDatabase();
  pool = database.openPool();
  folder = makeTemporaryDirectory();
  source = { kind: 'folder', path: folder };
  writeFileSync(path.join(folder, KEY_FILE), 'a'.repeat(64), { mode: 0o600 });
  await prepareKeys(pool, source);
});
afterAll(async () => {
  await pool.end();
  await database.drop();
  rmSync(folder, { recursive: true });
});

const open = async () => mustBeOpened(openKeyRows(await readKeyRows(pool), await readMasterKeys(source))).keys;
const rotate = (onStep: (step: string) => void = () => {}) =>
  rotateMasterKey({ pool, source, clock: systemClock, onStep });
const keptKey = () => readFileSync(path.join(folder, KEY_FILE), 'utf8').trim();

test('the key in a data folder is replaced, and the one before opens nothing', async () => {
  const keys = await open();
  const before = await readKeyFile(folder, KEY_FILE);
  expect(await rotate()).toEqual({ kind: 'rotated', rewrapped: 3 });
  expect(keptKey()).toMatch(/^[0-9a-f]{64}$/);
  expect(statSync(path.join(folder, KEY_FILE)).mode & 0o777).toBe(0o600);
  expect(existsSync(path.join(folder, NEXT_KEY_FILE))).toBe(false);
  expect(await open()).toEqual(keys);
  expect(before?.key.toString('hex')).toBe('a'.repeat(64));
  expect(openKeyRows(await readKeyRows(pool), before ? [before] : [])).toEqual({ kind: 'wrong-master' });
});

test('a replacement that ends before any of its steps leaves a start that works, and is taken up by the next one', async () => {
  let stops = 0;
  for (let at = 1; ; at += 1) {
    const keys = await open();
    const first = keptKey();
    let steps = 0;
    const stopped = await rotate(() => {
      steps += 1;
      if (steps === at) throw new Error('stopped');
    }).then(
      () => false,
      () => true,
    );
    if (!stopped) break;
    stops += 1;
    expect(await open()).toEqual(keys);
    await prepareKeys(pool, source);
    expect(await open()).toEqual(keys);
    await rotate();
    expect(await open()).toEqual(keys);
    expect(keptKey()).not.toBe(first);
    expect(existsSync(path.join(folder, NEXT_KEY_FILE))).toBe(false);
  }
  expect(stops).toBe(4);
});

test('a key file that neither file opens is left as it is', async () => {
  const kept = keptKey();
  writeFileSync(path.join(folder, KEY_FILE), 'b'.repeat(64));
  await expect(rotate()).rejects.toThrow('The encryption key is not the one that');
  expect(keptKey()).toBe('b'.repeat(64));
  expect(existsSync(path.join(folder, NEXT_KEY_FILE))).toBe(false);
  writeFileSync(path.join(folder, KEY_FILE), kept);
  await open();
});
