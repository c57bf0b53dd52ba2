import type {} from '@fastify/swagger';
import { Type } from 'typebox';
import { type Auditor, auditorOf } from '../audit/auditor.ts';
import { errorCode } from '../db/pool.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { conflict, invalidField } from '../kernel/errors.ts';
import { registerEnvironmentRoutes } from './environment-routes.ts';
import { mergeLimits, readLimits } from './limits.ts';
import {
  findTenant,
  insertTenant,
  listTenants,
  lockTenant,
  notify,
  type TenantRef,
  type TenantRow,
} from './queries.ts';
import { closeTenant } from './removal.ts';
import { registerRemovalRoutes } from './removal-routes.ts';
import { auditedTenant, foundTenant, NoContent, TenantPath, type TenantRouteDeps, tenantRef } from './route-parts.ts';
import { mergeSettings, readSettings } from './settings.ts';
import { showTenant } from './show.ts';
import { slugFromName } from './slug.ts';
import { registerSuspensionRoutes } from './suspension-routes.ts';
import {
  DEFAULT_SETTINGS,
  DEFAULT_TENANT_SLUG,
  DisplayName,
  NO_LIMITS,
  Slug,
  TenantLimitsChangeSchema,
  TenantSchema,
  TenantSettingsChangeSchema,
} from './types.ts';

/** `/api/v1/tenants` and, under each, `/environments`. For the operator only. */
export function registerTenantRoutes(app: HttpServer, deps: TenantRouteDeps): void {
  const { db, clock, newId, audit } = deps;
  const config = { permission: 'operate' } as const;
  const tags = ['Tenants'];
  const changed = (tenantId: string) => deps.onChange?.({ topic: 'tenants', tenantId });

  app.post(
    '/api/v1/tenants',
    {
      config,
      schema: {
        tags,
        summary: 'Create a tenant with the environments development, staging and production',
        body: Type.Object(
          {
            name: DisplayName,
            slug: Type.Optional(Slug),
            settings: Type.Optional(TenantSettingsChangeSchema),
            limits: Type.Optional(TenantLimitsChangeSchema),
          },
          { additionalProperties: false },
        ),
        response: { 201: TenantSchema },
      },
    },
    async (request, reply) => {
      const { name, settings, limits } = request.body;
      const slug = request.body.slug ?? slugFromName(name);
      if (slug === undefined)
        throw invalidField('slug', 'is required, because the name has no letter or digit for one');
      const tenant = {
        slug,
        name,
        settings: mergeSettings(DEFAULT_SETTINGS, settings),
        limits: mergeLimits(NO_LIMITS, limits),
      };
      const row = await db.transaction().execute(async (trx) => {
        const inserted = await insertTenant(trx, tenant, newId, new Date(clock.now()));
        if (inserted === undefined) return undefined;
        await audit.record(trx, auditorOf(request), {
          action: 'tenant.created',
          ...auditedTenant(inserted),
          ofPlatform: true,
          after: showTenant(inserted),
        });
        return inserted;
      });
      if (row === undefined) throw slugTaken(slug);
      changed(row.id);
      return reply.code(201).send(showTenant(row));
    },
  );

  app.get(
    '/api/v1/tenants',
    {
      config,
      schema: {
        tags,
        summary: 'List tenants',
        querystring: Type.Object(PageQuery),
        response: { 200: PageOf(TenantSchema) },
      },
    },
    async (request) => {
      const page = readPage(request.query);
      return toPage(await listTenants(db, page), page.limit, (row) => row.id, showTenant);
    },
  );

  app.get(
    '/api/v1/tenants/:id',
    {
      config,
      schema: { tags, summary: 'Read a tenant', params: TenantPath, response: { 200: TenantSchema } },
    },
    async (request) => showTenant(foundTenant(await findTenant(db, tenantRef(request.params.id)))),
  );

  app.route({
    method: ['PUT', 'PATCH'],
    url: '/api/v1/tenants/:id',
    config,
    schema: {
      tags,
      summary: 'Change a tenant; absent fields stay',
      params: TenantPath,
      body: Type.Object(
        {
          name: Type.Optional(DisplayName),
          slug: Type.Optional(Slug),
          settings: Type.Optional(TenantSettingsChangeSchema),
          limits: Type.Optional(TenantLimitsChangeSchema),
        },
        { additionalProperties: false },
      ),
      response: { 200: TenantSchema },
    },
    handler: async (request) => {
      const ref = tenantRef(request.params.id);
      const row = await changeTenant(deps, auditorOf(request), ref, (current) => ({
        name: request.body.name ?? current.name,
        slug: request.body.slug ?? current.slug,
        settings: JSON.stringify(mergeSettings(readSettings(current.settings), request.body.settings)),
        limits: JSON.stringify(mergeLimits(readLimits(current.limits), request.body.limits)),
      }));
      changed(row.id);
      return showTenant(row);
    },
  });

  app.delete(
    '/api/v1/tenants/:id',
    {
      config,
      schema: {
        tags,
        summary: 'Delete a tenant with everything it has',
        description:
          'Its keys, webhooks and event types are gone with the answer, and nothing can be done in its name any more. ' +
          'Its records are removed after it, also when the program is stopped meanwhile; ' +
          '`GET /api/v1/removals` shows how far that is.',
        params: TenantPath,
        response: { 204: NoContent },
      },
    },
    async (request, reply) => {
      const ref = tenantRef(request.params.id);
      const tenantId = await db.transaction().execute(async (trx) => {
        const tenant = foundTenant(await lockTenant(trx, ref));
        if (tenant.slug === DEFAULT_TENANT_SLUG) throw isDefaultTenant('cannot be deleted');
        await closeTenant(trx, tenant.id, new Date(clock.now()));
        await audit.record(trx, auditorOf(request), {
          action: 'tenant.deleted',
          ...auditedTenant(tenant),
          ofPlatform: true,
          before: showTenant(tenant),
        });
        return tenant.id;
      });
      changed(tenantId);
      return reply.code(204).send();
    },
  );

  registerSuspensionRoutes(app, deps);
  registerEnvironmentRoutes(app, deps);
  registerRemovalRoutes(app, deps);
}

async function changeTenant(
  { db, clock, audit }: TenantRouteDeps,
  by: Auditor,
  ref: TenantRef,
  change: (current: TenantRow) => { name: string; slug: string; settings: string; limits: string },
): Promise<TenantRow> {
  return db.transaction().execute(async (trx) => {
    const current = foundTenant(await lockTenant(trx, ref));
    const next = change(current);
    if (current.slug === DEFAULT_TENANT_SLUG && next.slug !== DEFAULT_TENANT_SLUG) {
      throw isDefaultTenant('keeps its slug');
    }
    const row = await trx
      .updateTable('tenants')
      .set({ ...next, updated_at: new Date(clock.now()) })
      .where('id', '=', current.id)
      .returningAll()
      .executeTakeFirstOrThrow()
      .catch((error) => {
        throw errorCode(error) === UNIQUE_VIOLATION ? slugTaken(next.slug) : error;
      });
    await notify(trx, { topic: 'tenants', tenantId: current.id });
    const { updated_at: _was, ...before } = showTenant(current);
    const { updated_at: _is, ...after } = showTenant(row);
    await audit.record(
      trx,
      { ...by, tenantId: current.id },
      { action: 'tenant.updated', ...auditedTenant(current), before, after },
    );
    return row;
  });
}

const UNIQUE_VIOLATION = '23505';

function slugTaken(slug: string) {
  return conflict('slug_taken', `Another tenant has the slug "${slug}".`);
}

/** Requests without X-Tenant-Id mean the tenant with this slug, so it must always be there. */
function isDefaultTenant(what: string) {
  return conflict(
    'default_tenant',
    `The tenant "${DEFAULT_TENANT_SLUG}" ${what}: requests that name no tenant mean it.`,
  );
}
