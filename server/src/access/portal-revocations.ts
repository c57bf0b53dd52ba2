import { sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Reach } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { LoadingCache } from '../kernel/loading-cache.ts';
import { PORTAL_TOKEN_SECONDS } from './portal-token.ts';

/** Stands for all tokens of an environment. */
const EVERYONE = '';

/** Where the numbers of revocations stand: a token that is made now carries this one. */
export async function latestRevocation(db: Database): Promise<number> {
  const found = await sql<{ number: number }>`
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS number FROM portal_revocation_numbers`.execute(db);
  return found.rows[0]?.number ?? 0;
}

/** Ends the tokens that were made so far: those with the owner, or without one all of the environment. */
export async function revokePortalTokens(trx: Transaction<Tables>, reach: Reach, now: Date): Promise<void> {
  await sql`
    INSERT INTO portal_revocations (tenant_id, environment_id, owner, number, revoked_at)
    VALUES (
      ${reach.tenantId}, ${reach.environmentId}, ${reach.owner ?? EVERYONE}, nextval('portal_revocation_numbers'), ${now}
    )
    ON CONFLICT (tenant_id, environment_id, owner) DO UPDATE SET
      number = greatest(portal_revocations.number, excluded.number), revoked_at = excluded.revoked_at`.execute(trx);
}

/** By the number below which a token is revoked, in memory. It answers at once what it knows. */
export interface PortalRevocations {
  numberFor(reach: Reach): number | Promise<number>;
  invalidate(tenantId: string): void;
  invalidateAll(): void;
}

export function createPortalRevocations({ db, clock }: { db: Database; clock: Clock }): PortalRevocations {
  const cache = new LoadingCache<{ tenantId: string; number: number }>({ clock });
  return {
    numberFor(reach) {
      const key = `${reach.environmentId}/${reach.owner ?? EVERYONE}`;
      const known = cache.cached(key);
      if (known !== undefined) return known.number;
      return cache
        .load(key, async () => ({ tenantId: reach.tenantId, number: await readNumber(db, reach) }))
        .then((loaded) => loaded?.number ?? 0);
    },
    invalidate: (tenantId) => cache.invalidate((known) => known.tenantId === tenantId),
    invalidateAll: () => cache.invalidateAll(),
  };
}

async function readNumber(db: Database, reach: Reach): Promise<number> {
  const row = await db
    .selectFrom('portal_revocations')
    .select(({ fn }) => fn.max<number | null>('number').as('number'))
    .where('tenant_id', '=', reach.tenantId)
    .where('environment_id', '=', reach.environmentId)
    .where('owner', 'in', [EVERYONE, reach.owner ?? EVERYONE])
    .executeTakeFirst();
  return row?.number ?? 0;
}

/** Twice what a token lives: by then each that was revoked has also expired, on whichever node's clock. */
const KEPT_MS = 2 * PORTAL_TOKEN_SECONDS.max * 1000;

/** Forgets revocations whose tokens have all expired, of all tenants; gives their number. */
export async function purgePortalRevocations(db: Database, nowMs: number): Promise<number> {
  const result = await sql`
    DELETE FROM portal_revocations WHERE revoked_at < ${new Date(nowMs - KEPT_MS)}`.execute(db);
  return Number(result.numAffectedRows ?? 0);
}
