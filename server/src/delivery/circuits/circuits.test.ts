import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDatabase } from '../../db/pool.ts';
import { systemClock } from '../../kernel/clock.ts';
import { createIdSource } from '../../kernel/ids.ts';
import { createLogger } from '../../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../../testing/database.ts';
import { eventually } from '../../testing/eventually.ts';
import { Circuits } from './circuits.ts';

const newId = createIdSource();
const [tenantId, environmentId, webhookId] = [newId(), newId(), newId()];

let database: TestDatabase;
let pool: pg.Pool;
beforeAll(async () => {
  database = await createTestDatabase();
  // One connection: what is asked first is answered first.
  ({ pool } = openDatabase({ connection: database.connection, max: 1, logger: createLogger('silent') }));
  await pool.query(
    "INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES ($1, 'tenant', 'Tenant', now(), now())",
    [tenantId],
  );
  await pool.query("INSERT INTO environments (tenant_id, id, name, created_at) VALUES ($1, $2, 'production', now())", [
    tenantId,
    environmentId,
  ]);
  await pool.query(
    `INSERT INTO webhooks (tenant_id, environment_id, id, name, url, events, status, http_method, created_at, updated_at)
     VALUES ($1, $2, $3, 'W', 'https://e.example/', '{*}', 'active', 'POST', now(), now())`,
    [tenantId, environmentId, webhookId],
  );
  await pool.query(
    `INSERT INTO circuits (tenant_id, environment_id, webhook_id, state, opened_at, reopens_at, reason)
     VALUES ($1, $2, $3, 'open', now(), now() + interval '1 hour', 'failure_rate')`,
    [tenantId, environmentId, webhookId],
  );
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

test('of two readings at the same time the one that was asked for last counts, however late the other one is answered', async () => {
  const released = Promise.withResolvers<void>();
  const read = Promise.withResolvers<void>();
  let first = true;
  const query = async (statement: pg.QueryConfig) => {
    const answer = await pool.query(statement);
    if (!first) return answer;
    first = false;
    read.resolve();
    await released.promise;
    return answer;
  };
  const circuits = new Circuits({
    pool: { query } as unknown as pg.Pool,
    clock: systemClock,
    logger: createLogger('silent'),
    onChange: () => {},
  });
  const older = circuits.load(webhookId);
  await read.promise;
  await pool.query('DELETE FROM circuits');
  const newer = circuits.load(webhookId);
  await new Promise((resolve) => setImmediate(resolve));
  // By then a reading that does not wait for the older one is answered.
  await pool.query('SELECT');
  released.resolve();
  await Promise.all([older, newer]);
  expect(circuits.find(webhookId)).toBeUndefined();
});

test('a circuit that has just opened stays open while others are read and its row is not there yet', async () => {
  const rowMayCome = Promise.withResolvers<void>();
  const query = async (statement: pg.QueryConfig) => {
    if (statement.name === 'open-circuit') await rowMayCome.promise;
    return pool.query(statement);
  };
  const circuits = new Circuits({
    pool: { query } as unknown as pg.Pool,
    clock: systemClock,
    logger: createLogger('silent'),
    onChange: () => {},
  });
  const lane = { tenantId, environmentId, webhookId };
  const breaker = { failureRate: 0.5, minimumRequests: 1, windowMs: 10_000, openMs: 60_000 };
  circuits.note({ lane, breaker, failed: true, probe: false });
  await circuits.load();
  expect(circuits.find(webhookId)?.state).toBe('open');
  rowMayCome.resolve();
  await eventually(
    () => circuits.load().then(() => circuits.find(webhookId)?.reopensAt),
    (reopensAt) => reopensAt !== undefined,
  );
  await pool.query('DELETE FROM circuits');
  await circuits.load();
  expect(circuits.find(webhookId)).toBeUndefined();
});
