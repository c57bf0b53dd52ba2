import type { Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';
import type { Reach } from '../http/caller.ts';
import { conflict } from '../kernel/errors.ts';

/** Webhooks an environment may have: the index of subscriptions and a page of totals stay quick up to there. */
const WEBHOOKS_MAX = 10_000;

/** Webhooks an owner may have before its portal makes no more: one customer must not use up the environment's. */
const WEBHOOKS_OF_OWNER_MAX = 100;

/**
 * The caller has locked the environment, so that the limits hold exactly.
 *
 * @throws AppError 409 when the environment, or the portal of the owner, has all the webhooks that it may.
 */
export async function refuseOneTooMany(
  trx: Transaction<Tables>,
  { tenantId, environmentId, owner }: Reach,
): Promise<void> {
  const { all, own } = await trx
    .selectFrom('webhooks')
    .select(({ fn }) => [
      fn.countAll<number>().as('all'),
      fn
        .countAll<number>()
        .filterWhere('owner', '=', owner ?? '')
        .as('own'),
    ])
    .where('tenant_id', '=', tenantId)
    .where('environment_id', '=', environmentId)
    .executeTakeFirstOrThrow();
  if (all >= WEBHOOKS_MAX) {
    throw conflict('too_many_webhooks', `An environment has at most ${WEBHOOKS_MAX} webhooks.`);
  }
  if (owner !== undefined && own >= WEBHOOKS_OF_OWNER_MAX) {
    throw conflict('too_many_webhooks', `An owner has at most ${WEBHOOKS_OF_OWNER_MAX} webhooks by portal tokens.`);
  }
}

/**
 * Creations of a tenant with a quota go one after the other. The tenant is locked before its environment, as elsewhere.
 *
 * @throws AppError 409
 */
export async function refuseBeyondQuota(trx: Transaction<Tables>, tenantId: string, max: number): Promise<void> {
  await trx.selectFrom('tenants').select('id').where('id', '=', tenantId).forNoKeyUpdate().execute();
  const { count } = await trx
    .selectFrom('webhooks')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('tenant_id', '=', tenantId)
    .executeTakeFirstOrThrow();
  if (count >= max) {
    throw conflict(
      'too_many_webhooks',
      `The tenant's limit of ${max} webhooks, all environments together, is reached.`,
      {
        limit: 'webhooks',
        value: max,
      },
    );
  }
}
