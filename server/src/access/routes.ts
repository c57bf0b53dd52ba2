import type {} from '@fastify/swagger';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { forbidden, invalidField } from '../kernel/errors.ts';
import { notify } from '../tenants/queries.ts';
import { NoContent } from '../tenants/route-parts.ts';
import { DisplayName, Slug } from '../tenants/types.ts';
import { createApiKey } from './key.ts';
import { registerKeyChangeRoutes } from './key-change-routes.ts';
import { API_KEY_ROLES, governsTenant, mayGrant } from './key-roles.ts';
import { ApiKeySchema, CreatedApiKeySchema, NullableTime, RequestsPerSecond, Scopes, showKey } from './key-schema.ts';
import { findKey, insertKey, listKeys, lockEnvironmentByName, revokeKey } from './queries.ts';
import {
  type ApiKeyRouteDeps,
  aboveCaller,
  auditedKey,
  found,
  KeyPath,
  keyId,
  reachOf,
  readExpiry,
  readScopes,
  requireHandOut,
} from './route-parts.ts';

/**
 * `/api/v1/api-keys`: the keys of the caller's tenant. Owners and the operator see and make keys of all environments,
 * admins those of their own. Nobody makes or revokes a key whose role is above their own.
 */
export function registerApiKeyRoutes(app: HttpServer, deps: ApiKeyRouteDeps): void {
  const { db, clock, newId, audit, box } = deps;
  const config = { permission: 'administer' } as const;
  const tags = ['API keys'];

  app.post(
    '/api/v1/api-keys',
    {
      config,
      schema: {
        tags,
        summary: 'Create an API key; the answer is the only one that shows it',
        body: Type.Object(
          {
            name: DisplayName,
            role: Type.Enum([...API_KEY_ROLES]),
            environment: Type.Optional(Slug),
            scopes: Type.Optional(Scopes),
            expires_at: Type.Optional(NullableTime),
            requests_per_second: Type.Optional(RequestsPerSecond),
          },
          { additionalProperties: false },
        ),
        response: { 201: CreatedApiKeySchema },
      },
    },
    async (request, reply) => {
      const { caller, body } = request;
      const now = new Date(clock.now());
      const expiresAt = readExpiry(body.expires_at, now);
      const environment = body.environment ?? caller.environmentName;
      if (!governsTenant(caller.role) && environment !== caller.environmentName) {
        throw forbidden(`The role "${caller.role}" makes keys of its own environment only; an owner makes others.`);
      }
      const scopes = readScopes(body.role, body.scopes);
      requireHandOut(caller, { role: body.role, scopes });
      const made = createApiKey(environment);
      const row = await db.transaction().execute(async (trx) => {
        const environmentId = await lockEnvironmentByName(trx, caller.tenantId, environment);
        if (environmentId === undefined) throw invalidField('environment', 'is not an environment of this tenant');
        const inserted = await insertKey(trx, {
          tenantId: caller.tenantId,
          id: newId(),
          environment: { id: environmentId, name: environment },
          name: body.name,
          role: body.role,
          scopes,
          keyHash: box.hashKey(made.key),
          keyHint: made.hint,
          expiresAt,
          requestsPerSecond: body.requests_per_second ?? null,
          now,
        });
        await audit.record(trx, auditorOf(request), {
          action: 'api_key.created',
          ...auditedKey(inserted),
          after: showKey(inserted, now),
        });
        return inserted;
      });
      return reply.code(201).send({ ...showKey(row, now), key: made.key });
    },
  );

  app.get(
    '/api/v1/api-keys',
    {
      config,
      schema: {
        tags,
        summary: 'List API keys, revoked ones too',
        querystring: Type.Object({
          ...PageQuery,
          active_only: Type.Boolean({ default: false, description: 'Without those that were revoked.' }),
        }),
        response: { 200: PageOf(ApiKeySchema) },
      },
    },
    async (request) => {
      const page = readPage(request.query);
      const filter = { unrevokedOnly: request.query.active_only };
      const rows = await listKeys(db, reachOf(request.caller), page, filter);
      const now = new Date(clock.now());
      return toPage(
        rows,
        page.limit,
        (row) => row.id,
        (row) => showKey(row, now),
      );
    },
  );

  app.get(
    '/api/v1/api-keys/:id',
    { config, schema: { tags, summary: 'Read an API key', params: KeyPath, response: { 200: ApiKeySchema } } },
    async (request) =>
      showKey(found(await findKey(db, reachOf(request.caller), keyId(request.params.id))), new Date(clock.now())),
  );

  registerKeyChangeRoutes(app, deps);

  app.delete(
    '/api/v1/api-keys/:id',
    {
      config,
      schema: {
        tags,
        summary: 'Revoke an API key at once',
        description: 'The key stays in the list with the time of its revocation. Revoking it again changes nothing.',
        params: KeyPath,
        response: { 204: NoContent },
      },
    },
    async (request, reply) => {
      const { caller } = request;
      const row = found(await findKey(db, reachOf(caller), keyId(request.params.id)));
      if (!mayGrant(caller.role, row.role)) throw aboveCaller(caller, row.role);
      const change = { topic: 'api_keys', tenantId: caller.tenantId, environmentId: row.environment_id } as const;
      await db.transaction().execute(async (trx) => {
        const revokedAt = new Date(clock.now());
        const revoked = await revokeKey(trx, caller.tenantId, row.id, revokedAt);
        await notify(trx, change);
        // Revoked before, it was not revoked now.
        if (!revoked) return;
        await audit.record(trx, auditorOf(request), {
          action: 'api_key.revoked',
          ...auditedKey(row),
          before: showKey(row, revokedAt),
          after: showKey({ ...row, revoked_at: revokedAt }, revokedAt),
        });
      });
      deps.onChange?.(change);
      return reply.code(204).send();
    },
  );
}
