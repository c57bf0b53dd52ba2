import { sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Reach } from '../http/caller.ts';
import type { PageRequest } from '../http/pagination.ts';

/** The webhooks of the owner that a caller is bound to; undefined: it is bound to none, and sees also what went to deleted ones. */
export async function reachedIds(db: Database, reach: Reach): Promise<string[] | undefined> {
  if (reach.owner === undefined) return undefined;
  return (await reached(db, reach).select('id').execute()).map(({ id }) => id);
}

/** Newest first, one more than the page has room for. */
export function listReached(db: Database, reach: Reach, page: PageRequest) {
  const { beforeId } = page;
  return reached(db, reach)
    .select(['id', 'name', 'status'])
    .$if(beforeId !== undefined, (query) => query.where('id', '<', beforeId ?? ''))
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

/** How many there are in each state. */
export async function countWebhooks(db: Database, reach: Reach) {
  const counted = await reached(db, reach)
    .leftJoin('circuits', (join) =>
      join.onRef('circuits.tenant_id', '=', 'webhooks.tenant_id').onRef('circuits.webhook_id', '=', 'webhooks.id'),
    )
    .select([
      sql<number>`count(*)`.as('total'),
      sql<number>`count(*) FILTER (WHERE webhooks.status = 'active')`.as('active'),
      sql<number>`count(*) FILTER (WHERE webhooks.status = 'paused')`.as('paused'),
      sql<number>`count(*) FILTER (WHERE webhooks.status = 'disabled')`.as('disabled'),
      sql<number>`count(circuits.webhook_id)`.as('circuits_open'),
    ])
    .executeTakeFirstOrThrow();
  return counted;
}

function reached(db: Database, reach: Reach) {
  return db
    .selectFrom('webhooks')
    .where('webhooks.tenant_id', '=', reach.tenantId)
    .where('webhooks.environment_id', '=', reach.environmentId)
    .$if(reach.owner !== undefined, (query) => query.where('webhooks.owner', '=', reach.owner ?? ''));
}
