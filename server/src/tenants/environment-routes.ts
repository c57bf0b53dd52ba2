import type { Transaction } from 'kysely';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { Tables } from '../db/tables.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { conflict, notFound } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import { type EnvironmentRow, findTenant, insertEnvironment, listEnvironments, lockTenant, notify } from './queries.ts';
import { closeEnvironment } from './removal.ts';
import { changeRetention, RetentionChangeSchema, readRetention, showOverride } from './retention.ts';
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

  app.route({
    method: ['PUT', 'PATCH'],
    url: '/api/v1/tenants/:id/environments/:name',
    config,
    schema: {
      tags,
      summary: 'Change for how long an environment keeps its records',
      description: 'Absent fields stay; `null` leaves it to the tenant.',
      params: Type.Object({ ...TenantPath.properties, name: Type.String() }),
      body: Type.Object({ retention: Type.Optional(RetentionChangeSchema) }, { additionalProperties: false }),
      response: { 200: EnvironmentSchema },
    },
    handler: async (request) => {
      const ref = tenantRef(request.params.id);
      const row = await db.transaction().execute(async (trx) => {
        const tenant = foundTenant(await lockTenant(trx, ref));
        const found = await findEnvironment(trx, tenant.id, request.params.name);
        const retention = changeRetention(readRetention(found.retention), request.body.retention);
        const changedRow = await trx
          .updateTable('environments')
          .set({ retention: JSON.stringify(retention) })
          .where('tenant_id', '=', tenant.id)
          .where('id', '=', found.id)
          .returningAll()
          .executeTakeFirstOrThrow();
        await notify(trx, { topic: 'tenants', tenantId: tenant.id, environmentId: found.id });
        await audit.record(
          trx,
          { ...auditorOf(request), tenantId: tenant.id },
          {
            action: 'environment.updated',
            ...auditedEnvironment(found),
            before: showEnvironment(found),
            after: showEnvironment(changedRow),
          },
        );
        return changedRow;
      });
      changed(row.tenant_id);
      return showEnvironment(row);
    },
  });

  app.delete(
    '/api/v1/tenants/:id/environments/:name',
    {
      config,
      schema: {
        tags,
        summary: 'Delete an environment with everything in it',
        description:
          'Its keys, webhooks and event types are gone with the answer. Its records are removed after it; ' +
          '`GET /api/v1/removals` shows how far that is.',
        params: Type.Object({ ...TenantPath.properties, name: Type.String() }),
        response: { 204: NoContent },
      },
    },
    async (request, reply) => {
      const ref = tenantRef(request.params.id);
      // The tenant is locked, so that two deletions cannot each leave the other's environment as the last.
      const row = await db.transaction().execute(async (trx) => {
        const tenant = foundTenant(await lockTenant(trx, ref));
        const found = await findEnvironment(trx, tenant.id, request.params.name);
        if ((await countEnvironments(trx, tenant.id)) === 1) {
          throw conflict('last_environment', 'A tenant keeps at least one environment.');
        }
        await closeEnvironment(trx, { tenantId: tenant.id, environmentId: found.id }, new Date(clock.now()));
        const by = { ...auditorOf(request), tenantId: tenant.id };
        const before = showEnvironment(found);
        await audit.record(trx, by, { action: 'environment.deleted', ...auditedEnvironment(found), before });
        return found;
      });
      changed(row.tenant_id);
      return reply.code(204).send();
    },
  );
}

/** @throws AppError 404 */
async function findEnvironment(trx: Transaction<Tables>, tenantId: string, name: string): Promise<EnvironmentRow> {
  // PostgreSQL takes no text with a NUL, and no environment's name has one.
  if (name.includes('\0')) throw notFound('environment');
  const row = await trx
    .selectFrom('environments')
    .selectAll()
    .where('tenant_id', '=', tenantId)
    .where('name', '=', name)
    .executeTakeFirst();
  if (row === undefined) throw notFound('environment');
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
    retention: showOverride(row.retention),
    created_at: row.created_at.toISOString(),
  };
}
