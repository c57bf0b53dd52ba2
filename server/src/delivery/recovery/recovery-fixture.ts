import { ensurePartitions } from '../../db/partitions.ts';
import { type DatabaseHandle, openDatabase } from '../../db/pool.ts';
import type { Scope } from '../../http/caller.ts';
import { createIdSource, type IdSource } from '../../kernel/ids.ts';
import { createLogger } from '../../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../../testing/database.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import type { ReplayOptions } from './chunk.ts';
import type { RecoveryFilter } from './filter.ts';
import { insertJob, type JobRow } from './jobs.ts';

/** A database with tenants, webhooks and ended deliveries, and a clock that a test moves. No engine takes anything up. */
export interface RecoveryFixture {
  database: TestDatabase;
  handle: DatabaseHandle;
  clock: ManualClock;
  newId: IdSource;
  options: ReplayOptions;
  addTenant(): Promise<Scope>;
  addWebhook(scope: Scope, status?: string): Promise<string>;
  /** Deliveries of one event each, a millisecond apart, with their dead letters; gives their UUIDs in order. */
  addDeliveries(scope: Scope, webhookId: string, status: string, count: number, changes?: Changes): Promise<string[]>;
  addJob(scope: Scope, filter?: Partial<RecoveryFilter>): Promise<string>;
  job(id: string): Promise<JobRow>;
  /** Deliveries by `status trigger`, with `due` where they are due now, `later` where they are not. */
  count(scope: Scope): Promise<Record<string, number>>;
  close(): Promise<void>;
}

interface Changes {
  trigger?: string;
  /** null: erased. */
  data?: string | null;
  eventType?: string;
  attemptCount?: number;
  responseStatus?: number;
  deadLetter?: boolean;
  dueAt?: string | null;
}

export async function openRecoveryFixture(): Promise<RecoveryFixture> {
  const database = await createTestDatabase();
  const logger = createLogger('silent');
  const handle = openDatabase({ connection: database.connection, logger });
  const clock = new ManualClock();
  const newId = createIdSource(clock);
  const { db, pool } = handle;
  await ensurePartitions(pool, clock.now());

  const fixture: RecoveryFixture = {
    database,
    handle,
    clock,
    newId,
    options: { db, clock, newId, logger },
    async addTenant() {
      const scope = { tenantId: newId(), environmentId: newId() };
      await pool.query(
        `INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES ($1, $2, 'T', now(), now())`,
        [scope.tenantId, scope.tenantId],
      );
      await pool.query(
        `INSERT INTO environments (tenant_id, id, name, created_at) VALUES ($1, $2, 'production', now())`,
        [scope.tenantId, scope.environmentId],
      );
      return scope;
    },
    async addWebhook(scope, status = 'active') {
      const id = newId();
      await pool.query(
        `INSERT INTO webhooks (tenant_id, environment_id, id, name, url, events, status, http_method, created_at, updated_at)
         VALUES ($1, $2, $3, 'W', 'https://e.example/', '{*}', $4, 'POST', now(), now())`,
        [scope.tenantId, scope.environmentId, id, status],
      );
      return id;
    },
    async addDeliveries(scope, webhookId, status, count, changes = {}) {
      const { trigger = 'scheduled', data = '{}', eventType = 'order.paid', attemptCount = 1 } = changes;
      const { responseStatus = null } = changes;
      const { deadLetter = status === 'dead', dueAt = null } = changes;
      const ids = Array.from({ length: count }, () => {
        clock.advance(1);
        return newId();
      });
      await pool.query(
        `INSERT INTO events (tenant_id, environment_id, id, event_type, occurred_at, data, priority, delivery_count, is_test)
         SELECT $1, $2, id, $4, now(), $5, 0, 1, $6 FROM unnest($3::uuid[]) AS i (id)`,
        [
          scope.tenantId,
          scope.environmentId,
          ids,
          eventType,
          data === null ? null : Buffer.from(data),
          trigger === 'test',
        ],
      );
      await pool.query(
        `INSERT INTO deliveries (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, status_reason,
           trigger, priority, attempt_count, due_at, completed_at, response_status)
         SELECT $1, $2, id, id, $4, $5, $6::text, CASE WHEN $6 = 'dead' THEN 'attempts_used_up' END, $7, 0, $8,
           $9::timestamptz, CASE WHEN $6 IN ('delivered', 'dead', 'cancelled') THEN now() END, $10::int
         FROM unnest($3::uuid[]) AS i (id)`,
        [
          scope.tenantId,
          scope.environmentId,
          ids,
          webhookId,
          eventType,
          status,
          trigger,
          attemptCount,
          dueAt,
          responseStatus,
        ],
      );
      if (deadLetter) {
        await pool.query(
          `INSERT INTO dead_letters (tenant_id, environment_id, delivery_id, event_id, webhook_id, event_type, reason,
             attempt_count, response_status, dead_at)
           SELECT $1, $2, id, id, $4, $5, 'attempts_used_up', 1, $6::int, now() FROM unnest($3::uuid[]) AS i (id)`,
          [scope.tenantId, scope.environmentId, ids, webhookId, eventType, responseStatus],
        );
      }
      return ids;
    },
    async addJob(scope, filter = {}) {
      clock.advance(1);
      const row = await insertJob(db, scope, {
        id: newId(),
        trigger: 'replays',
        filter: {
          webhookId: undefined,
          eventType: undefined,
          statuses: undefined,
          sinceMs: undefined,
          untilMs: clock.now(),
          ...filter,
        },
        estimate: { count: 0, isExact: true },
        now: new Date(clock.now()),
      });
      return row.id;
    },
    job: (id) => db.selectFrom('replay_jobs').selectAll().where('id', '=', id).executeTakeFirstOrThrow(),
    async count(scope) {
      const { rows } = await pool.query<{ line: string; count: number }>(
        `SELECT concat_ws(' ', status, trigger, CASE WHEN due_at <= $3 THEN 'due' WHEN due_at > $3 THEN 'later' END) AS line,
           count(*) AS count
         FROM deliveries WHERE tenant_id = $1 AND environment_id = $2 GROUP BY 1`,
        [scope.tenantId, scope.environmentId, new Date(clock.now())],
      );
      return Object.fromEntries(rows.map(({ line, count }) => [line, count]));
    },
    async close() {
      await handle.close();
      await database.drop();
    },
  };
  return fixture;
}
