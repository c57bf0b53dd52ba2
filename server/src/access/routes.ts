import type {} from '@fastify/swagger';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import type { Database } from '../db/pool.ts';
import type { Caller } from '../http/caller.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { forbidden, invalidField, notFound } from '../kernel/errors.ts';
import { formatId, type IdSource, parseId } from '../kernel/ids.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { notify } from '../tenants/queries.ts';
import { NoContent } from '../tenants/route-parts.ts';
import { DisplayName, Slug } from '../tenants/types.ts';
import { createApiKey } from './key.ts';
import { API_KEY_ROLES, governsTenant, mayGrant } from './key-roles.ts';
import {
  type ApiKeyRow,
  findKey,
  insertKey,
  type KeyReach,
  listKeys,
  lockEnvironmentByName,
  revokeKey,
} from './queries.ts';

export interface ApiKeyRouteDeps {
  db: Database;
  clock: Clock;
  newId: IdSource;
  audit: AuditLog;
  box: SecretBox;
  /** Called after each committed change and before its answer, so that this node's next request sees it. */
  onChange?: (change: Change) => void;
}

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
            expires_at: Type.Optional(NullableTime),
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
      requireRank(caller, body.role);
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
          keyHash: box.hashKey(made.key),
          keyHint: made.hint,
          expiresAt,
          now,
        });
        await audit.record(trx, auditorOf(request), {
          action: 'api_key.created',
          ...auditedKey(inserted),
          after: showKey(inserted),
        });
        return inserted;
      });
      return reply.code(201).send({ ...showKey(row), key: made.key });
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
      return toPage(await listKeys(db, reachOf(request.caller), page, filter), page.limit, (row) => row.id, showKey);
    },
  );

  app.get(
    '/api/v1/api-keys/:id',
    { config, schema: { tags, summary: 'Read an API key', params: KeyPath, response: { 200: ApiKeySchema } } },
    async (request) => showKey(await findKeyOf(db, request.caller, request.params.id)),
  );

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
      const row = await findKeyOf(db, caller, request.params.id);
      requireRank(caller, row.role);
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
          before: showKey(row),
          after: showKey({ ...row, revoked_at: revokedAt }),
        });
      });
      deps.onChange?.(change);
      return reply.code(204).send();
    },
  );
}

const KeyPath = Type.Object({ id: Type.String({ description: 'TypeID, `key_…`.' }) });

const NullableTime = Type.Unsafe<string | null>({ type: ['string', 'null'], format: 'date-time' });

const ApiKeySchema = Type.Object({
  id: Type.String({ description: 'TypeID, `key_…`.' }),
  name: Type.String(),
  role: Type.String(),
  environment: Type.String(),
  key_hint: Type.String({ description: 'The first characters of the key.' }),
  expires_at: NullableTime,
  last_used_at: NullableTime,
  revoked_at: NullableTime,
  created_at: Type.String({ format: 'date-time' }),
});

const CreatedApiKeySchema = Type.Object({
  ...ApiKeySchema.properties,
  key: Type.String({ description: 'The key itself. It is stored hashed and never shown again.' }),
});

function auditedKey(row: ApiKeyRow) {
  return { resourceType: 'api_key', resourceId: formatId('apiKey', row.id), environmentId: row.environment_id };
}

function reachOf(caller: Caller): KeyReach {
  return {
    tenantId: caller.tenantId,
    environmentId: governsTenant(caller.role) ? undefined : caller.environmentId,
  };
}

async function findKeyOf(db: Database, caller: Caller, idText: string): Promise<ApiKeyRow> {
  const id = parseId('apiKey', idText);
  const row = id === undefined ? undefined : await findKey(db, reachOf(caller), id);
  if (row === undefined) throw notFound('API key');
  return row;
}

function requireRank(caller: Caller, role: string): void {
  if (!mayGrant(caller.role, role)) {
    throw forbidden(`The role "${caller.role}" has no say over keys with the role "${role}", which is above it.`);
  }
}

function readExpiry(text: string | null | undefined, now: Date): Date | null {
  if (text === undefined || text === null) return null;
  const time = new Date(text);
  // RFC 3339 has leap seconds, which a Date does not.
  if (Number.isNaN(time.getTime())) throw invalidField('expires_at', 'is not a time that exists');
  if (time <= now) throw invalidField('expires_at', 'must be in the future');
  return time;
}

function showKey(row: ApiKeyRow) {
  return {
    id: formatId('apiKey', row.id),
    name: row.name,
    role: row.role,
    environment: row.environment,
    key_hint: row.key_hint,
    expires_at: row.expires_at?.toISOString() ?? null,
    last_used_at: row.last_used_at?.toISOString() ?? null,
    revoked_at: row.revoked_at?.toISOString() ?? null,
    created_at: row.created_at.toISOString(),
  };
}
