import { readFileSync } from 'node:fs';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { signToken } from '../../src/access/jwt/token-fixture.ts';
import { loadMigrations, migrate } from '../../src/db/migrate.ts';
import { masterKey } from '../../src/encryption/master-keys.ts';
import { rotateDataKey } from '../../src/encryption/rotate-data-key.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { parseEncryptionKey } from '../../src/kernel/secret-box.ts';
import { createTestDatabase, type TestDatabase } from '../../src/testing/database.ts';
import { startTestPosthorn } from '../../src/testing/posthorn.ts';

/** Made by the program as it was before there were data keys. */
const then = JSON.parse(readFileSync(new URL('../vectors/sealed-format-1.json', import.meta.url), 'utf8'));
const KEY = parseEncryptionKey(then.encryption_key) as Buffer;

let database: TestDatabase;
let pool: pg.Pool;
beforeAll(async () => {
  database = await createTestDatabase();
  pool = database.openPool();
  await pool.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public');
  await migrate(
    pool,
    loadMigrations().filter(({ name }) => name < '0009'),
  );
  for (const [table, rows] of Object.entries<object[]>(then.rows)) {
    for (const row of rows) {
      const columns = Object.keys(row).join(', ');
      await pool.query(
        `INSERT INTO ${table} (${columns}) SELECT ${columns} FROM json_populate_record(NULL::${table}, $1)`,
        [row],
      );
    }
  }
  // Answers are kept for a day.
  await pool.query('UPDATE idempotent_requests SET created_at = now()');
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

test('a database from before there were data keys is refused with another key, opens with its own, and can be rotated', async () => {
  const settings = { databaseUrl: database.connectionString, encryptionKey: KEY };
  const other = startTestPosthorn({ ...settings, encryptionKey: Buffer.alloc(32, 9) });
  await expect(other).rejects.toThrow('The encryption key is not the one that');

  const posthorn = await startTestPosthorn(settings);
  const expectAllOpen = async () => {
    const { id, secret } = then.response;
    expect((await posthorn.call('GET', `/api/v1/webhooks/${id}/secret`)).body.secret).toBe(secret);
    const shown = await posthorn.call('GET', `/api/v1/webhooks/${id}`);
    expect(shown.body.headers).toEqual({ Authorization: '***' });
    const again = await posthorn.call('POST', '/api/v1/webhooks', then.request_body, { 'idempotency-key': 'make/two' });
    expect([again.headers.get('idempotent-replayed'), again.body]).toEqual(['true', then.response]);
    const event = { event_type: 'a.b', data: {} };
    const published = await posthorn.call('POST', '/api/v1/events', event, { authorization: `Bearer ${then.api_key}` });
    expect(published.status).toBe(202);
    const { issuer, audience, secret: shared } = then.jwt;
    const exp = Math.floor(Date.now() / 1000) + 60;
    const token = signToken({ iss: issuer, aud: audience, sub: 'user', tenant: 'default', exp }, shared);
    const listed = await posthorn.call('GET', '/api/v1/webhooks', undefined, { authorization: `Bearer ${token}` });
    expect(listed.status, listed.text).toBe(200);
  };
  const check = await pool.query('SELECT count(*)::int AS count FROM encryption_check');
  expect(check.rows).toEqual([{ count: 0 }]);
  await expectAllOpen();
  const made = await posthorn.call('POST', '/api/v1/webhooks', {
    name: 'n',
    url: 'http://127.0.0.1:4711',
    events: ['*'],
  });
  expect(made.status).toBe(201);
  const result = await rotateDataKey({
    pool,
    clock: systemClock,
    masters: [masterKey(KEY)],
    onStep: () => {},
    settleMs: 0,
  });
  expect(result).toEqual({ key: 1, resealed: 4, removed: [0] });
  await expectAllOpen();
  await posthorn.restart();
  await expectAllOpen();
  await posthorn.stop();
});
