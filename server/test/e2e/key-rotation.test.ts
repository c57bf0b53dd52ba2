import type pg from 'pg';
import { beforeEach, expect, test } from 'vitest';
import { KeyRing } from '../../src/encryption/key-ring.ts';
import { openKeyRows, readKeyRows } from '../../src/encryption/key-rows.ts';
import { masterKey } from '../../src/encryption/master-keys.ts';
import { resealColumn } from '../../src/encryption/reseal.ts';
import { rotateDataKey } from '../../src/encryption/rotate-data-key.ts';
import { rotateMasterKey } from '../../src/encryption/rotate-master-key.ts';
import { SEALED_COLUMNS, sealedPlace } from '../../src/encryption/sealed-columns.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { createSecretBox, keyIdOf } from '../../src/kernel/secret-box.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';

/** As `startTestPosthorn` has it. */
const MASTER = masterKey(Buffer.alloc(32, 7));
const NEXT = masterKey(Buffer.alloc(32, 8));

let posthorn: TestPosthorn;
let pool: pg.Pool;
beforeEach(async () => {
  posthorn = await startTestPosthorn({ previousEncryptionKey: NEXT.key });
  pool = posthorn.database.openPool(4);
  return async () => {
    await pool.end();
    await posthorn.stop();
  };
});

const rotate = (onStep: (step: string) => void | Promise<void> = () => {}, masters = [MASTER, NEXT]) =>
  rotateDataKey({ pool, clock: systemClock, masters, onStep, settleMs: 0, noticeMs: 10_000 });
const rotateMaster = (onStep: (step: string) => void | Promise<void> = () => {}) =>
  rotateMasterKey({
    pool,
    clock: systemClock,
    source: { kind: 'given', keys: [NEXT.key, MASTER.key] },
    onStep,
    noticeMs: 10_000,
  });

const createWebhook = async (fields: object = {}) => {
  const body = {
    name: 'Test',
    url: 'http://127.0.0.1:4711',
    events: ['a.b'],
    headers: { 'X-Token': 'abc' },
    ...fields,
  };
  const answer = await posthorn.call('POST', '/api/v1/webhooks', body);
  expect(answer.status).toBe(201);
  return answer.body as { id: string; secret: string };
};
const secretOf = async (id: string) => (await posthorn.call('GET', `/api/v1/webhooks/${id}/secret`)).body.secret;
const states = async () => (await readKeyRows(pool)).map(({ id, purpose, state }) => `${id} ${purpose} ${state}`);
const keysInUse = async () => {
  const rows = await pool.query(`SELECT secret_box AS box FROM webhook_secrets UNION ALL
    SELECT headers_box FROM webhooks WHERE headers_box IS NOT NULL UNION ALL
    SELECT response_box FROM idempotent_requests WHERE response_box IS NOT NULL`);
  return [...new Set(rows.rows.map(({ box }) => keyIdOf(box)))];
};

/** Ends a rotation before its step number `at`; whether it got there. */
function stopAt(at: number): { onStep: (step: string) => void; reached: () => boolean } {
  let steps = 0;
  return {
    onStep: () => {
      steps += 1;
      if (steps === at) throw new Error('stopped');
    },
    reached: () => steps >= at,
  };
}

test('a rotation seals everything anew, and secrets, headers, kept answers, API keys and portal tokens stay as they are', async () => {
  const webhooks = [await createWebhook(), await createWebhook({ signature: { asymmetric: true } })];
  await posthorn.call('POST', `/api/v1/webhooks/${webhooks[0]?.id}/secret/rotate`, {});
  const secrets = await Promise.all(webhooks.map(({ id }) => secretOf(id)));
  const key = (
    await posthorn.call('POST', '/api/v1/api-keys', { name: 'k', role: 'developer', environment: 'production' })
  ).body.key;
  const { token } = (await posthorn.call('POST', '/api/v1/portal-tokens', { access: 'read' })).body;
  const body = { name: 'Once', url: 'http://127.0.0.1:4711', events: ['a.b'] };
  const once = () => posthorn.call('POST', '/api/v1/webhooks', body, { 'idempotency-key': 'once' });
  const answered = (await once()).body;

  const result = await rotate();
  expect(result).toEqual({ key: 4, resealed: 8, removed: [1] });
  expect(await states()).toEqual(['2 hashing current', '3 portal current', '4 sealing current']);
  expect(await keysInUse()).toEqual([4]);
  const expectUnharmed = async (count: number) => {
    expect(await Promise.all(webhooks.map(({ id }) => secretOf(id)))).toEqual(secrets);
    expect((await once()).body).toEqual(answered);
    for (const credential of [key, token]) {
      const headers = { authorization: `Bearer ${credential}` };
      const mine = await posthorn.call('GET', '/api/v1/webhooks', undefined, headers);
      expect([mine.status, mine.body.data.length]).toEqual([200, count]);
    }
  };
  await expectUnharmed(3);
  await createWebhook();
  expect(await keysInUse()).toEqual([4]);
  await posthorn.restart();
  await expectUnharmed(4);
});

test('a rotation that ends before any of its steps is taken up by the next one, and all opens meanwhile', async () => {
  const webhook = await createWebhook();
  let rotations = 0;
  for (let at = 1; ; at += 1) {
    const { onStep, reached } = stopAt(at);
    const stopped = await rotate(onStep).then(
      () => false,
      () => true,
    );
    expect(await secretOf(webhook.id)).toBe(webhook.secret);
    if (!stopped) {
      expect(reached()).toBe(false);
      break;
    }
    await createWebhook();
    await posthorn.restart();
    expect(await secretOf(webhook.id)).toBe(webhook.secret);
    await rotate();
    rotations += 1;
    expect((await states()).length).toBe(3);
    expect(await keysInUse()).toEqual([rotations + 3]);
  }
  expect(rotations).toBeGreaterThanOrEqual(7);
}, 120_000);

test('a new master key opens everything, and the one before nothing any more', async () => {
  const webhook = await createWebhook();
  const { token } = (await posthorn.call('POST', '/api/v1/portal-tokens', { access: 'read' })).body;
  const withToken = async () =>
    (await posthorn.call('GET', '/api/v1/webhooks', undefined, { authorization: `Bearer ${token}` })).status;
  // The program has both; the new one is the first that the command names.
  expect(await rotateMaster()).toEqual({ kind: 'rotated', rewrapped: 3 });
  expect(openKeyRows(await readKeyRows(pool), [MASTER])).toEqual({ kind: 'wrong-master' });
  expect(openKeyRows(await readKeyRows(pool), [NEXT]).kind).toBe('opened');
  expect(await rotateMaster()).toEqual({ kind: 'already', rewrapped: 3 });
  // Data keys made from here on are wrapped by it, and the program learns them.
  await rotate();
  expect(openKeyRows(await readKeyRows(pool), [MASTER])).toEqual({ kind: 'wrong-master' });
  expect(await secretOf(webhook.id)).toBe(webhook.secret);
  expect(await withToken()).toBe(200);
  await posthorn.restart();
  expect(await withToken()).toBe(200);
  expect(await secretOf(webhook.id)).toBe(webhook.secret);
});

test('a rotation waits for a process that lacks the new key, names it when that takes too long, and harms nothing', async () => {
  const webhook = await createWebhook();
  await pool.query(
    `INSERT INTO key_holders (id, pid, host, seen_at, newest_key, current_key, master_keys)
    VALUES (gen_random_uuid(), 4711, 'elsewhere', now() + interval '1 hour', 1, 1, ARRAY[$1])`,
    [MASTER.name],
  );
  const impatient = { pool, clock: systemClock, onStep: () => {}, noticeMs: 300 };
  await expect(rotateDataKey({ ...impatient, masters: [MASTER], settleMs: 0 })).rejects.toThrow(
    /Data key 4 is not known everywhere: process 4711 on elsewhere\./,
  );
  expect(await states()).toEqual(['1 sealing current', '2 hashing current', '3 portal current', '4 sealing next']);
  await expect(
    rotateMasterKey({ ...impatient, source: { kind: 'given', keys: [NEXT.key, MASTER.key] } }),
  ).rejects.toThrow(/The new master key is not known everywhere: process 4711 on elsewhere\./);
  expect(openKeyRows(await readKeyRows(pool), [MASTER]).kind).toBe('opened');

  // It learns to open with the new key, and goes on sealing with the one before.
  await pool.query('UPDATE key_holders SET newest_key = 4 WHERE pid = 4711');
  await expect(rotateDataKey({ ...impatient, masters: [MASTER], settleMs: 0 })).rejects.toThrow(
    /Data key 4 is not in use everywhere: process 4711 on elsewhere\./,
  );
  await pool.query(`UPDATE key_holders SET seen_at = now() - interval '1 minute' WHERE pid = 4711`);
  expect(await rotate()).toMatchObject({ key: 4, removed: [1] });
  expect(await secretOf(webhook.id)).toBe(webhook.secret);
});

test('a portal token is good before every step of a rotation and after it, and one made meanwhile too', async () => {
  const statuses: number[] = [];
  const tokens: string[] = [];
  const look = async () => {
    tokens.push((await posthorn.call('POST', '/api/v1/portal-tokens', { access: 'read' })).body.token);
    for (const token of tokens) {
      const headers = { authorization: `Bearer ${token}` };
      statuses.push((await posthorn.call('GET', '/api/v1/webhooks', undefined, headers)).status);
    }
  };
  await look();
  await rotate(look);
  await rotateMaster(look);
  await posthorn.restart();
  await look();
  expect(tokens.length).toBeGreaterThan(8);
  expect(new Set(statuses)).toEqual(new Set([200]));
});

test('two rotations at once: one of them is refused', async () => {
  let second: unknown;
  await rotate(async () => {
    second ??= rotate().catch((error) => error.message);
  });
  expect(await second).toBe('Another rotation of keys is under way.');
});

test('a locked row is not waited for, and is sealed anew when it is free', async () => {
  const webhook = await createWebhook();
  const holder = await pool.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM webhook_secrets FOR UPDATE');
  // The rotation walks over them while they are locked, and ends only because they are let go.
  const release = eventually(
    // The text is put together, so that the query does not find itself.
    () => pool.query("SELECT FROM pg_stat_activity WHERE query LIKE '%KEY UPDATE OF' || ' found%' AND state = 'idle'"),
    ({ rowCount }) => rowCount !== 0,
  ).then(() => holder.query('COMMIT'));
  await rotate();
  await release;
  holder.release();
  expect(await secretOf(webhook.id)).toBe(webhook.secret);
  expect(await keysInUse()).toEqual([4]);
});

test('a row that is changed between its reading and its sealing keeps its new value', async () => {
  const webhook = await createWebhook();
  await rotate((step) => {
    if (step.startsWith('Sealed')) throw new Error('stopped');
  }).catch(() => {});
  const ring = new KeyRing();
  const opened = openKeyRows(await readKeyRows(pool), [MASTER]);
  if (opened.kind === 'opened') ring.take(opened.keys);
  const box = createSecretBox(ring);
  const { rows } = await pool.query('SELECT ARRAY[tenant_id, webhook_id, id]::text[] AS row FROM webhook_secrets');
  const place = sealedPlace(SEALED_COLUMNS.webhookSecret, ...rows[0].row);
  const newer = box.seal('changed meanwhile', place);
  let statements = 0;
  const result = await resealColumn(
    {
      query: async (...statement: Parameters<pg.Pool['query']>) => {
        statements += 1;
        if (statements === 2) await pool.query('UPDATE webhook_secrets SET secret_box = $1', [newer]);
        return pool.query(...statement);
      },
    } as Pick<pg.Pool, 'query'>,
    SEALED_COLUMNS.webhookSecret,
    { box, currentKey: 4 },
  );
  expect([statements, result]).toEqual([2, { resealed: 0, passedOver: 1, unreadable: [] }]);
  expect(await secretOf(webhook.id)).toBe('changed meanwhile');
});

test('a value that does not open ends the rotation by name, and the old key stays for the others', async () => {
  const [good, bad] = [await createWebhook(), await createWebhook()];
  await pool.query(`UPDATE webhook_secrets SET secret_box = set_byte(secret_box, 40, get_byte(secret_box, 40) # 1)
    WHERE webhook_id = (SELECT max(id::text)::uuid FROM webhooks)`);
  await expect(rotate()).rejects.toThrow(
    /^1 of webhook_secrets\.secret_box cannot be opened, the first of them webhook_secrets\/[-0-9a-f/]+\/secret\./,
  );
  expect(await states()).toEqual(['1 sealing old', '2 hashing current', '3 portal current', '4 sealing current']);
  expect(await secretOf(good.id)).toBe(good.secret);
  expect((await posthorn.call('DELETE', `/api/v1/webhooks/${bad.id}`)).status).toBe(204);
  expect(await rotate()).toMatchObject({ key: 4, removed: [1] });
  expect(await secretOf(good.id)).toBe(good.secret);
});

test('a value that is stored under the old key while that is being removed holds up the removal', async () => {
  const webhook = await createWebhook();
  const { rows } = await pool.query('SELECT secret_box AS box FROM webhook_secrets');
  const late = await pool.connect();
  const rotation = rotate(async (step) => {
    if (!step.startsWith('Removing')) return;
    await late.query('BEGIN');
    await late.query('UPDATE webhook_secrets SET secret_box = $1', [rows[0].box]);
    void eventually(
      () => pool.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'"),
      ({ rowCount }) => rowCount !== 0,
    ).then(() => late.query('COMMIT'));
  });
  await expect(rotation).rejects.toThrow('1 values were stored under an old key meanwhile');
  late.release();
  expect(await states()).toEqual(['1 sealing old', '2 hashing current', '3 portal current', '4 sealing current']);
  expect(await secretOf(webhook.id)).toBe(webhook.secret);
  expect(await rotate()).toEqual({ key: 4, resealed: 1, removed: [1] });
  // From now on the database takes nothing that is sealed with it.
  const after = pool.query('UPDATE webhook_secrets SET secret_box = $1', [rows[0].box]);
  await expect(after).rejects.toMatchObject({ code: 'PH002' });
  expect(await secretOf(webhook.id)).toBe(webhook.secret);
});
