import { sql, type Transaction } from 'kysely';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import { createIdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { insertTenant } from '../tenants/queries.ts';
import { closeTenant, removeSome } from '../tenants/removal.ts';
import { DEFAULT_SETTINGS } from '../tenants/types.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { bySystem } from './auditor.ts';
import { PLATFORM_CHAIN } from './hash.ts';
import { createAuditLog } from './log.ts';
import { listEntries, removeEntriesBefore } from './queries.ts';
import { listChains, verifyChain } from './verify.ts';

let nowMs = Date.parse('2026-03-01T10:00:00Z');
const newId = createIdSource({ now: () => nowMs } as never);
const audit = createAuditLog({ newId });
let database: TestDatabase;
let handle: DatabaseHandle;
beforeAll(async () => {
  database = await createTestDatabase();
  handle = openDatabase({ connection: database.connection, logger: createLogger('silent') });
});
afterAll(async () => {
  await handle.close();
  await database.drop();
});

let made = 0;
async function makeTenant(): Promise<string> {
  made += 1;
  const tenant = { slug: `chain-${made}`, name: 'T', settings: DEFAULT_SETTINGS };
  const row = await handle.db.transaction().execute((trx) => insertTenant(trx, tenant, newId, new Date()));
  return row?.id as string;
}

const done = { action: 'thing.made', resourceType: 'thing', resourceId: 'a' } as const;
const record = (trx: Transaction<Tables>, tenantId: string, more: object = {}) =>
  audit.record(trx, bySystem({ tenantId, environmentId: null }), { ...done, ...more });
const write = (tenantId: string, more?: object) =>
  handle.db.transaction().execute((trx) => record(trx, tenantId, more));

const PAGE = { limit: 250, beforeId: undefined };
const entriesOf = (tenantId: string) => listEntries(handle.db, { tenantId, environmentId: undefined }, {}, PAGE);
const verdictOf = (tenantId: string) => verifyChain(handle.db, tenantId, () => {});

test('an entry is there with its change or not at all, and the chain goes on after one that was rolled back', async () => {
  const tenantId = await makeTenant();
  await write(tenantId);
  const failing = handle.db.transaction().execute(async (trx) => {
    await record(trx, tenantId);
    throw new Error('the change failed');
  });
  await expect(failing).rejects.toThrow('the change failed');
  await write(tenantId);
  expect((await entriesOf(tenantId)).map(({ sequence }) => sequence)).toEqual([2, 1]);
  expect((await verdictOf(tenantId)).fault).toBeUndefined();
});

test('changes of one tenant at the same time make one chain, and those of another do not wait for them', async () => {
  const [busy, other] = [await makeTenant(), await makeTenant()];
  let release = () => {};
  const held = handle.db.transaction().execute(async (trx) => {
    await record(trx, busy);
    await new Promise<void>((resolve) => {
      release = resolve;
    });
  });
  await write(other);
  const waiting = Array.from({ length: 100 }, () => write(busy));
  release();
  await Promise.all([held, ...waiting]);
  const { entries, fault, head } = await verdictOf(busy);
  expect([entries, fault, head.sequence]).toEqual([101, undefined, 101]);
});

test('any text comes back as it was hashed', async () => {
  const tenantId = await makeTenant();
  const odd = 'a\0b \ud800 \u{1f4ef} "\\ \u2028';
  await handle.db
    .transaction()
    .execute((trx) =>
      audit.record(
        trx,
        { ...bySystem({ tenantId, environmentId: null }), actor: { kind: 'jwt', id: odd + 'x'.repeat(1_000) } },
        { ...done, resourceId: odd, after: JSON.parse(`{"__proto__": {"a": 1}, "odd": ${JSON.stringify(odd)}}`) },
      ),
    );
  const [entry] = await entriesOf(tenantId);
  expect(entry?.actor_id).toHaveLength(256);
  expect(entry?.after).toBe(`{"__proto__":{"a":1},"odd":${JSON.stringify(odd)}}`);
  expect((await verdictOf(tenantId)).fault).toBeUndefined();
});

test('an entry for a tenant that is gone fails, and so does its change', async () => {
  await expect(write(newId())).rejects.toMatchObject({ status: 404 });
});

test.each([
  ['UPDATE', sql`UPDATE audit_log SET action = 'x.y'`],
  ['UPDATE of nothing', sql`UPDATE audit_log SET action = 'x.y' WHERE false`],
  ['DELETE', sql`DELETE FROM audit_log`],
  ['TRUNCATE', sql`TRUNCATE audit_log`],
])('the table refuses %s', async (_name, statement) => {
  await write(await makeTenant());
  await expect(statement.execute(handle.db)).rejects.toThrow('the audit log is append-only');
});

test('old entries go as a whole beginning of the chain, and the rest still fits', async () => {
  const [tenantId, other] = [await makeTenant(), await makeTenant()];
  await write(other);
  for (let count = 0; count < 7; count += 1) await write(tenantId);
  nowMs += 86_400_000;
  for (let count = 0; count < 3; count += 1) await write(tenantId);
  const seen: string[] = [];
  await verifyChain(handle.db, tenantId, (hash) => seen.push(hash));
  expect(await removeEntriesBefore(handle.db, tenantId, nowMs, 2)).toBe(7);
  expect(await removeEntriesBefore(handle.db, tenantId, nowMs, 2)).toBe(0);
  expect((await entriesOf(tenantId)).map(({ sequence }) => sequence)).toEqual([10, 9, 8]);
  expect(await verdictOf(tenantId)).toMatchObject({ fault: undefined, entries: 3, removed: 7, head: { sequence: 10 } });
  const later: string[] = [];
  await verifyChain(handle.db, tenantId, (hash) => later.push(hash));
  // The last that went is remembered.
  expect(later).toEqual(seen.slice(7));
  expect(await entriesOf(other)).toHaveLength(1);
  // All of it may go.
  expect(await removeEntriesBefore(handle.db, tenantId, Number.POSITIVE_INFINITY, 3)).toBe(3);
  await write(tenantId);
  expect(await verdictOf(tenantId)).toMatchObject({
    fault: undefined,
    entries: 1,
    removed: 10,
    head: { sequence: 11 },
  });
});

test('an old entry behind a younger one stays: only a beginning goes', async () => {
  const tenantId = await makeTenant();
  const startMs = nowMs;
  await write(tenantId);
  nowMs += 86_400_000;
  await write(tenantId);
  // A node whose clock is behind.
  const behind = createAuditLog({ newId: createIdSource({ now: () => startMs } as never) });
  await handle.db.transaction().execute((trx) => behind.record(trx, bySystem({ tenantId, environmentId: null }), done));
  expect(await removeEntriesBefore(handle.db, tenantId, nowMs)).toBe(1);
  expect(await verdictOf(tenantId)).toMatchObject({ fault: undefined, entries: 2, removed: 1 });
});

test('a tenant that is removed takes its chain along at once, its entries after it, and no others', async () => {
  const [gone, stays] = [await makeTenant(), await makeTenant()];
  for (let count = 0; count < 7; count += 1) await write(gone);
  await write(stays);
  await write(PLATFORM_CHAIN);
  const clock = new ManualClock(Date.now());
  await handle.db.transaction().execute((trx) => closeTenant(trx, gone, new Date(clock.now())));
  await expect(write(gone)).rejects.toMatchObject({ status: 404 });
  // Nobody takes what is being removed for an entry that lost its chain.
  expect(await entriesOf(gone)).toHaveLength(7);
  expect(await listChains(handle.db)).not.toContain(gone);
  const logger = createLogger('silent');
  while (await removeSome({ db: handle.db, clock, logger, batchRows: 2 }));
  expect(await entriesOf(gone)).toEqual([]);
  expect(await listChains(handle.db)).not.toContain(gone);
  expect(await entriesOf(stays)).toHaveLength(1);
  expect((await verdictOf(PLATFORM_CHAIN)).fault).toBeUndefined();
});

test('entries whose chain went in another way are named by the check', async () => {
  const tenantId = await makeTenant();
  await write(tenantId);
  await handle.db.deleteFrom('tenants').where('id', '=', tenantId).execute();
  expect(await listChains(handle.db)).toContain(tenantId);
  expect((await verdictOf(tenantId)).fault).toBe('The chain is not there; its entries are.');
});
