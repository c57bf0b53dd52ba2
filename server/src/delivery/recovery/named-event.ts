import type { Database } from '../../db/pool.ts';
import type { Reach, Scope } from '../../http/caller.ts';
import { invalidField } from '../../kernel/errors.ts';
import { isWithin } from '../../webhooks/owner.ts';

/**
 * UUID of the event whose deliveries a body means, by its TypeID or the publisher's own id; undefined where it names none.
 *
 * @throws AppError 422 for one that has no delivery which the caller may see: the same for another tenant's as for none.
 */
export async function namedEvent(
  deps: { db: Database; findEventId: (scope: Scope, id: string) => Promise<string | undefined> },
  reach: Reach,
  text: string | null | undefined,
): Promise<string | undefined> {
  if (text == null) return undefined;
  const id = await deps.findEventId(reach, text);
  if (id === undefined || !(await hasDelivery(deps.db, reach, id))) {
    throw invalidField('event_id', 'is not an event with deliveries in this environment');
  }
  return id;
}

/** Asked of the deliveries: one that was made by a replay may outlive its event. */
async function hasDelivery(db: Database, reach: Reach, eventId: string): Promise<boolean> {
  const found = await db
    .selectFrom('deliveries')
    .select('id')
    .where('tenant_id', '=', reach.tenantId)
    .where('environment_id', '=', reach.environmentId)
    .where('event_id', '=', eventId)
    .where(isWithin(reach, 'webhook_id'))
    .limit(1)
    .executeTakeFirst();
  return found !== undefined;
}
