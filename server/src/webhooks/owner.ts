import { type RawBuilder, type SqlBool, sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Reach, Scope } from '../http/caller.ts';
import { forbidden } from '../kernel/errors.ts';
import type { WebhookDirectory } from './directory.ts';
import type { WebhookChange } from './schema.ts';
import type { WebhookTarget } from './target.ts';

/** The condition that a column holds the id of a webhook with this owner. What was a deleted one's has none. */
export function isOfOwner(scope: Scope, owner: string, column: string): RawBuilder<SqlBool> {
  return sql<SqlBool>`${sql.ref(column)} IN (
    SELECT id FROM webhooks
    WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId} AND owner = ${owner})`;
}

/** The condition that a column holds the id of a webhook that the caller may see. */
export function isWithin(reach: Reach, column: string): RawBuilder<SqlBool> {
  return reach.owner === undefined ? sql<SqlBool>`true` : isOfOwner(reach, reach.owner, column);
}

/** A webhook that the caller may see, by its UUID. Of a caller with an owner the row is asked, which no cache delays. */
export async function findWithin(
  { db, webhooks }: { db: Database; webhooks: WebhookDirectory },
  reach: Reach,
  id: string,
): Promise<WebhookTarget | undefined> {
  if (reach.owner !== undefined) {
    const own = await db
      .selectFrom('webhooks')
      .select('id')
      .where('tenant_id', '=', reach.tenantId)
      .where('environment_id', '=', reach.environmentId)
      .where('id', '=', id)
      .where('owner', '=', reach.owner)
      .executeTakeFirst();
    if (own === undefined) return undefined;
  }
  return webhooks.find(reach, id);
}

/**
 * What a caller with an owner may not say of its webhook, because it reaches beyond: whose it is, and its place before
 * other owners' deliveries. What is already so may be sent along. Events of Posthorn's own tell a webhook with an owner of
 * this owner's webhooks only (`events/operational-event.ts`), so it may ask for any.
 *
 * @param current what the webhook says so far; undefined: it is being made.
 * @throws AppError 403
 */
export function refuseBeyondOwner(reach: Reach, body: Partial<WebhookChange>, current?: { priority: number }): void {
  if (reach.owner === undefined) return;
  if (body.owner !== undefined && body.owner !== reach.owner) {
    throw forbidden('This portal token is for the webhooks of one owner, and "owner" names another.');
  }
  if (body.priority !== undefined && (body.priority ?? 0) !== (current?.priority ?? 0)) {
    throw forbidden('A portal token for one owner cannot change "priority", which holds up the deliveries of others.');
  }
}
