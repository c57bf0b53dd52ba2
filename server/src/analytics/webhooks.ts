import { sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Reach } from '../http/caller.ts';
import type { PageRequest } from '../http/pagination.ts';
import { notFound } from '../kernel/errors.ts';
import { parseId } from '../kernel/ids.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import { findWithin } from '../webhooks/owner.ts';

/** The webhooks of the owner that a caller is bound to; undefined: it is bound to none, and sees also what went to deleted ones. */
export async function reachedIds(db: Database, reach: Reach): Promise<string[] | undefined> {
  if (reach.owner === undefined) return undefined;
  return (await reached(db, reach).select('id').execute()).map(({ id }) => id);
}

interface Finding {
  db: Database;
  webhooks: WebhookDirectory;
}

/** The id of a webhook that a path or a query names. @throws AppError 404 for one that is not the caller's. */
export async function requireWebhook(deps: Finding, reach: Reach, text: string): Promise<string> {
  const id = parseId('webhook', text);
  if (id === undefined || (await findWithin(deps, reach, id)) === undefined) throw notFound('webhook');
  return id;
}

/** What a request looks at: one webhook, all of an owner's, or (undefined) whatever there was. */
export async function webhooksOf(
  deps: Finding,
  reach: Reach,
  webhookId: string | undefined,
): Promise<string[] | undefined> {
  return webhookId === undefined ? reachedIds(deps.db, reach) : [await requireWebhook(deps, reach, webhookId)];
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
