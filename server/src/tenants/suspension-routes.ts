import type {} from '@fastify/swagger';
import type { FastifyRequest } from 'fastify';
import { type Static, Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { HttpServer } from '../http/server.ts';
import { lockTenant, notify, type TenantRow } from './queries.ts';
import { auditedTenant, foundTenant, TenantPath, type TenantRouteDeps, tenantRef } from './route-parts.ts';
import { showTenant } from './show.ts';
import { TenantSchema } from './types.ts';

/**
 * `/api/v1/tenants/{id}/suspend` and `/resume`. A tenant that is suspended keeps everything it has, and nothing of it
 * moves: its credentials get 403, nobody publishes for it, and its deliveries are held until it is resumed.
 */
export function registerSuspensionRoutes(app: HttpServer, deps: TenantRouteDeps): void {
  const config = { permission: 'operate' } as const;
  const tags = ['Tenants'];

  app.post(
    '/api/v1/tenants/:id/suspend',
    {
      config,
      schema: {
        tags,
        summary: 'Stop the traffic of a tenant at once; its data stays',
        description:
          'Its credentials are answered 403 `tenant_suspended`, nothing is published for it, and what waits to be ' +
          'delivered is held. Suspending it again changes nothing but the reason, if one is given.',
        params: TenantPath,
        body: Type.Object(
          {
            reason: Type.Optional(
              Type.Unsafe<string | null>({
                type: ['string', 'null'],
                minLength: 1,
                maxLength: 500,
                pattern: '^[^\\u0000-\\u001f\\u007f]*$',
                description: 'For the operator; the tenant is not told.',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: { 200: TenantSchema },
      },
    },
    async (request) => {
      const { reason } = request.body;
      const row = await setSuspension(deps, request, 'tenant.suspended', (current, now) => ({
        suspended_at: current.suspended_at ?? now,
        suspended_reason: reason === undefined ? current.suspended_reason : reason,
      }));
      return showTenant(row);
    },
  );

  app.post(
    '/api/v1/tenants/:id/resume',
    {
      config,
      schema: {
        tags,
        summary: 'Let the traffic of a suspended tenant go on, held deliveries first',
        params: TenantPath,
        response: { 200: TenantSchema },
      },
    },
    async (request) => {
      const row = await setSuspension(deps, request, 'tenant.resumed', () => ({
        suspended_at: null,
        suspended_reason: null,
      }));
      return showTenant(row);
    },
  );
}

function suspensionOf(row: TenantRow) {
  const { suspended_at, suspended_reason } = showTenant(row);
  return { suspended_at, suspended_reason };
}

type Suspension = Pick<TenantRow, 'suspended_at' | 'suspended_reason'>;

async function setSuspension(
  { db, clock, audit, onChange }: TenantRouteDeps,
  request: FastifyRequest<{ Params: Static<typeof TenantPath> }>,
  action: 'tenant.suspended' | 'tenant.resumed',
  change: (current: Suspension, now: Date) => Suspension,
): Promise<TenantRow> {
  const { row, resumed } = await db.transaction().execute(async (trx) => {
    const current = foundTenant(await lockTenant(trx, tenantRef(request.params.id)));
    const now = new Date(clock.now());
    const next = change(current, now);
    const resumed = current.suspended_at !== null && next.suspended_at === null;
    const row = await trx
      .updateTable('tenants')
      .set({ ...next, updated_at: now })
      .where('id', '=', current.id)
      .returningAll()
      .executeTakeFirstOrThrow();
    await notify(trx, { topic: 'tenants', tenantId: row.id });
    if (resumed) {
      // What failed before says nothing of how requests will fare now.
      await trx
        .updateTable('webhook_totals')
        .set({ failing_since: null, failing_days: 0, last_failure_at: null })
        .where('tenant_id', '=', row.id)
        .where('last_failure_at', 'is not', null)
        .execute();
      await notify(trx, { topic: 'tenant_resumed', tenantId: row.id });
    }
    // In the chain of the platform: the reason is not for the tenant.
    await audit.record(trx, auditorOf(request), {
      action,
      ...auditedTenant(row),
      ofPlatform: true,
      before: suspensionOf(current),
      after: suspensionOf(row),
    });
    return { row, resumed };
  });
  onChange?.({ topic: 'tenants', tenantId: row.id });
  if (resumed) onChange?.({ topic: 'tenant_resumed', tenantId: row.id });
  return row;
}
