import type { Transaction } from 'kysely';
import { sql } from 'kysely';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { Tables } from '../db/tables.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { conflict, notFound } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import { type EnvironmentRow, findTenant, insertEnvironment, listEnvironments, lockTenant, notify } from './queries.ts';
import { removeRecords } from './removal.ts';
import { foundTenant, NoContent, TenantPath, type TenantRouteDeps, tenantRef } from './route-parts.ts';
import { ENVIRONMENTS_MAX, EnvironmentSchema, Slug } from './types.ts';

/** `/api/v1/tenants/{id}/environments`. A tenant has from 1 to 20 of them. */
export function registerEnvironmentRoutes(app: HttpServer, deps: TenantRouteDeps): void {
  const { db, clock, newId, audit } = deps;
  const config = { permission: 'operate' } as const;
  const tags = ['Tenants'];
  const changed = (tenantId: string) => deps.onChange?.({ topic: 'tenants', tenantId });

  app.get(
    '/api/v1/tenants/:id/environments',
    {
      config,
      schema: {
        tags,
        summary: "List a tenant's environments",
        params: TenantPath,
        querystring: Type.Object(PageQuery),
        response: { 200: PageOf(EnvironmentSchema) },
      },
    },
    async (request) => {
      const page = readPage(request.query);
      const tenant = foundTenant(await findTenant(db, tenantRef(request.params.id)));
      return toPage(await listEnvironments(db, tenant.id, page), page.limit, (row) => row.id, showEnvironment);
    },
  );

  app.post(
    '/api/v1/tenants/:id/environments',
    {
      config,
      schema: {
        tags,
        summary: 'Add an environment to a tenant',
        params: TenantPath,
        body: Type.Object({ name: Slug }, { additionalProperties: false }),
        response: { 201: EnvironmentSchema },
      },
    },
    async (request, reply) => {
      const ref = tenantRef(request.params.id);
      const { name } = request.body;
      const row = await db.transaction().execute(async (trx) => {
        const tenant = foundTenant(await lockTenant(trx, ref));
        if ((await countEnvironments(trx, tenant.id)) >= ENVIRONMENTS_MAX) {
          throw conflict('too_many_environments', `A tenant has at most ${ENVIRONMENTS_MAX} environments.`);
        }
        const environment = { tenantId: tenant.id, id: newId(), name, now: new Date(clock.now()) };
        const inserted = await insertEnvironment(trx, environment);
        if (inserted === undefined) {
          throw conflict('environment_exists', `The tenant already has an environment "${name}".`);
        }
        await notify(trx, { topic: 'tenants', tenantId: tenant.id, environmentId: inserted.id });
        const by = { ...auditorOf(request), tenantId: tenant.id };
        const after = showEnvironment(inserted);
        await audit.record(trx, by, { action: 'environment.created', ...auditedEnvironment(inserted), after });
        return inserted;
      });
      changed(row.tenant_id);
      return reply.code(201).send(showEnvironment(row));
    },
  );

  app.delete(
    '/api/v1/tenants/:id/environments/:name',
    {
      config,
      schema: {
        tags,
        summary: 'Delete an environment with everything in it',
        description: 'Its keys, webhooks and event types go at once, then its records; answers when all are gone.',
        params: Type.Object({ ...TenantPath.properties, name: Type.String() }),
        response: { 204: NoContent },
      },
    },
    async (request, reply) => {
      const ref = tenantRef(request.params.id);
      const row = await db.transaction().execute(async (trx) => {
        const tenant = foundTenant(await lockTenant(trx, ref));
        const deleted = await deleteEnvironment(trx, tenant.id, request.params.name);
        const by = { ...auditorOf(request), tenantId: tenant.id };
        const before = showEnvironment(deleted);
        await audit.record(trx, by, { action: 'environment.deleted', ...auditedEnvironment(deleted), before });
        return deleted;
      });
      changed(row.tenant_id);
      await removeRecords({ db, tenantId: row.tenant_id, environmentId: row.id });
      return reply.code(204).send();
    },
  );
}

/** The caller has locked the tenant, so that two deletions cannot each leave the other's environment as the last. */
async function deleteEnvironment(trx: Transaction<Tables>, tenantId: string, name: string): Promise<EnvironmentRow> {
  // PostgreSQL takes no text with a NUL, and no environment's name has one.
  if (name.includes('\0')) throw notFound('environment');
  const row = await trx
    .selectFrom('environments')
    .selectAll()
    .where('tenant_id', '=', tenantId)
    .where('name', '=', name)
    .executeTakeFirst();
  if (row === undefined) throw notFound('environment');
  if ((await countEnvironments(trx, tenantId)) === 1) {
    throw conflict('last_environment', 'A tenant keeps at least one environment.');
  }
  // Totals name a webhook and no environment, so they must go while the webhooks still say where they belong.
  await sql`DELETE FROM webhook_totals WHERE tenant_id = ${tenantId} AND webhook_id IN (
    SELECT id FROM webhooks WHERE tenant_id = ${tenantId} AND environment_id = ${row.id})`.execute(trx);
  await trx.deleteFrom('environments').where('tenant_id', '=', tenantId).where('id', '=', row.id).execute();
  await notify(trx, { topic: 'tenants', tenantId, environmentId: row.id });
  return row;
}

async function countEnvironments(trx: Transaction<Tables>, tenantId: string): Promise<number> {
  const row = await trx
    .selectFrom('environments')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('tenant_id', '=', tenantId)
    .executeTakeFirstOrThrow();
  return row.count;
}

function auditedEnvironment(row: EnvironmentRow) {
  return { resourceType: 'environment', resourceId: formatId('environment', row.id), environmentId: row.id };
}

function showEnvironment(row: EnvironmentRow) {
  return {
    id: formatId('environment', row.id),
    name: row.name,
    preset: row.preset,
    created_at: row.created_at.toISOString(),
  };
}
