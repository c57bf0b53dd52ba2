import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { makeTemporaryDirectory } from '../testing/temporary-directory.ts';
import { KEY_FILE, type MasterKeySource, NEXT_KEY_FILE, readMasterKeys } from './key-files.ts';
import { openKeyRows, readKeyRows, rewrapKey } from './key-rows.ts';
import { masterKey } from './master-keys.ts';
import { mustBeOpened, prepareKeys } from './prepare-keys.ts';

const [ONE, TWO] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
const WRONG = 'The encryption key is not the one that the secrets in this database were stored with';

let database: TestDatabase;
let pool: pg.Pool;
let folder: string;

beforeAll(async () => {
  database = await createTestDatabase();
  pool = database.openPool();
  folder = makeTemporaryDirectory();
});
afterAll(async () => {
  await pool.end();
  await database.drop();
  rmSync(folder, { recursive: true });
});
beforeEach(async () => {
  await pool.query('TRUNCATE encryption_keys, encryption_check');
});

const given = (...keys: Buffer[]): MasterKeySource => ({ kind: 'given', keys });
const open = async (source: MasterKeySource) =>
  mustBeOpened(openKeyRows(await readKeyRows(pool), await readMasterKeys(source)));

test('a new database gets three keys, once, however many programs start on it at the same time', async () => {
  await Promise.all(Array.from({ length: 8 }, () => prepareKeys(pool, given(ONE))));
  const { keys } = await open(given(ONE));
  expect(keys.map(({ id, purpose, state }) => [id, purpose, state])).toEqual([
    [1, 'sealing', 'current'],
    [2, 'hashing', 'current'],
    [3, 'portal', 'current'],
  ]);
  expect(new Set(keys.map(({ key }) => key.toString('hex'))).size).toBe(3);
  await prepareKeys(pool, given(ONE));
  expect((await open(given(ONE))).keys).toEqual(keys);
});

test('a portal key that was removed is made anew, and no other key', async () => {
  await prepareKeys(pool, given(ONE));
  const before = await open(given(ONE));
  await pool.query(`DELETE FROM encryption_keys WHERE purpose = 'portal'`);
  await Promise.all(Array.from({ length: 4 }, () => prepareKeys(pool, given(TWO, ONE))));
  const after = await open(given(ONE));
  expect(after.keys.slice(0, 2)).toEqual(before.keys.slice(0, 2));
  expect(after.keys.length).toBe(3);
  expect(after.keys[2]).toMatchObject({ id: 3, purpose: 'portal', state: 'current' });
  expect(after.keys[2]?.key.equals(before.keys[2]?.key as Buffer)).toBe(false);
});

test('another encryption key is refused, and changes nothing', async () => {
  await prepareKeys(pool, given(ONE));
  const before = await readKeyRows(pool);
  await expect(prepareKeys(pool, given(TWO))).rejects.toThrow(WRONG);
  await expect(prepareKeys(pool, given())).rejects.toThrow(WRONG);
  expect(await readKeyRows(pool)).toEqual(before);
});

test('the encryption key before the configured one opens too', async () => {
  await prepareKeys(pool, given(ONE));
  await prepareKeys(pool, given(TWO, ONE));
  expect((await open(given(TWO, ONE))).master.key).toEqual(ONE);
});

test.each([
  [
    'a changed bit',
    'UPDATE encryption_keys SET wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1) WHERE id = 2',
  ],
  ['a wrapping that was cut', `UPDATE encryption_keys SET wrapped = substring(wrapped FROM 1 FOR 9) WHERE id = 2`],
  ['an empty wrapping', `UPDATE encryption_keys SET wrapped = '' WHERE id = 2`],
  [
    'the wrapping of the other key',
    'UPDATE encryption_keys SET wrapped = (SELECT wrapped FROM encryption_keys WHERE id = 1) WHERE id = 2',
  ],
  ['another purpose', `UPDATE encryption_keys SET purpose = 'sealing', state = 'old' WHERE id = 2`],
])('a damaged key is refused by its number: %s', async (_name, damage) => {
  await prepareKeys(pool, given(ONE));
  await pool.query(damage);
  await expect(prepareKeys(pool, given(TWO, ONE))).rejects.toThrow('Key 2 in the table encryption_keys is damaged');
});

test('when every key is damaged, it is said of the right encryption key that they are, and of another that it is wrong', async () => {
  await prepareKeys(pool, given(ONE));
  await pool.query('UPDATE encryption_keys SET wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1)');
  await expect(prepareKeys(pool, given(ONE))).rejects.toThrow('Key 1 in the table encryption_keys is damaged');
  await expect(prepareKeys(pool, given(TWO))).rejects.toThrow(WRONG);
});

test('secrets without their keys are no new database', async () => {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await client.query(
      'ALTER TABLE webhook_secrets DROP CONSTRAINT IF EXISTS webhook_secrets_tenant_id_webhook_id_fkey',
    );
    await client.query(`INSERT INTO webhook_secrets (tenant_id, webhook_id, id, kind, secret_box, created_at)
      VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'symmetric', '\\x02', now())`);
    await client.query('COMMIT');
    await expect(prepareKeys(pool, given(ONE))).rejects.toThrow('holds secrets and not the keys');
    expect(await readKeyRows(pool)).toEqual([]);
  } finally {
    await client.query('TRUNCATE webhook_secrets');
    client.release();
  }
});

test.each([
  ['before the data keys are wrapped anew', ONE, [ONE, TWO], true],
  ['after that', TWO, [TWO], false],
  ['after that, and the old file is gone', TWO, [TWO], false],
])(
  'a replacement of the key file that was cut short leaves a start that works: %s',
  async (when, wraps, left, nextStays) => {
    const source: MasterKeySource = { kind: 'folder', path: folder };
    writeFileSync(path.join(folder, KEY_FILE), ONE.toString('hex'));
    rmSync(path.join(folder, NEXT_KEY_FILE), { force: true });
    await prepareKeys(pool, source);
    const { keys } = await open(source);

    writeFileSync(path.join(folder, NEXT_KEY_FILE), TWO.toString('hex'));
    for (const key of keys) await rewrapKey(pool, key, masterKey(wraps));
    if (when.endsWith('gone')) writeFileSync(path.join(folder, KEY_FILE), randomBytes(32).toString('hex'));

    await prepareKeys(pool, source);
    expect((await readMasterKeys(source)).map(({ key }) => key)).toEqual(left);
    expect(existsSync(path.join(folder, NEXT_KEY_FILE))).toBe(nextStays);
    expect((await open(source)).keys).toEqual(keys);
  },
);

test('a file that holds no key is refused by name, and its text does not show', async () => {
  writeFileSync(path.join(folder, KEY_FILE), ONE.toString('hex'));
  writeFileSync(path.join(folder, NEXT_KEY_FILE), 'hunter2');
  const refused = prepareKeys(pool, { kind: 'folder', path: folder });
  await expect(refused).rejects.toThrow('encryption.key.next in the data folder does not hold a key');
  await expect(refused).rejects.not.toThrow('hunter2');
  expect(readFileSync(path.join(folder, NEXT_KEY_FILE), 'utf8')).toBe('hunter2');
});
