import type {} from '@fastify/swagger';
import type { FastifyRequest } from 'fastify';
import type { Transaction } from 'kysely';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Caller } from '../http/caller.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { conflict, forbidden, invalidField, notFound } from '../kernel/errors.ts';
import { formatId, type IdSource, parseId } from '../kernel/ids.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { notify } from '../tenants/queries.ts';
import { NoContent } from '../tenants/route-parts.ts';
import { DisplayName, LIMIT_MAX, Slug } from '../tenants/types.ts';
import { createApiKey } from './key.ts';
import { API_KEY_ROLES, type ApiKeyRole, governsTenant, mayGrant } from './key-roles.ts';
import {
  type ApiKeyRow,
  countOldSecrets,
  findKey,
  insertKey,
  type KeyReach,
  listKeys,
  lockEnvironmentByName,
  lockKey,
  replaceSecret,
  revokeKey,
  updateKey,
} from './queries.ts';
import { type KeyPowers, SCOPES, scopesBeyondRole, withinScopes } from './scopes.ts';

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

  /**
   * Changes a key that still is one, and tells every node. `work` resolves to the row as it is afterwards, and to what
   * the answer shows beside it.
   */
  const change = async <Shown extends object>(
    request: FastifyRequest,
    idText: string,
    action: 'api_key.updated' | 'api_key.rotated',
    work: (trx: Transaction<Tables>, key: ApiKeyRow, now: Date) => Promise<[next: ApiKeyRow, shown: Shown]>,
  ) => {
    const { caller } = request;
    const id = keyId(idText);
    const now = new Date(clock.now());
    const [answer, notice] = await db.transaction().execute(async (trx) => {
      const key = found(await lockKey(trx, reachOf(caller), id));
      requireHandOut(caller, key);
      if (key.revoked_at !== null) throw conflict('key_revoked', 'This API key was revoked; make another one.');
      const [next, shown] = await work(trx, key, now);
      const told = { topic: 'api_keys', tenantId: caller.tenantId, environmentId: key.environment_id } as const;
      await notify(trx, told);
      const [before, after] = [showKey(key, now), showKey(next, now)];
      await audit.record(trx, auditorOf(request), { action, ...auditedKey(key), before, after });
      return [{ ...after, ...shown }, told] as const;
    });
    deps.onChange?.(notice);
    return answer;
  };

  app.route({
    method: ['PUT', 'PATCH'],
    url: '/api/v1/api-keys/:id',
    config,
    schema: {
      tags,
      summary: 'Change the name, the scopes, the end or the limit of an API key; absent fields stay',
      params: KeyPath,
      body: Type.Object(
        {
          name: Type.Optional(DisplayName),
          scopes: Type.Optional(Scopes),
          expires_at: Type.Optional(NullableTime),
          requests_per_second: Type.Optional(RequestsPerSecond),
        },
        { additionalProperties: false },
      ),
      response: { 200: ApiKeySchema },
    },
    handler: async (request) => {
      const { caller, params, body } = request;
      return change(request, params.id, 'api_key.updated', async (trx, key, now) => {
        const next = {
          ...key,
          name: body.name ?? key.name,
          scopes: body.scopes === undefined ? key.scopes : readScopes(key.role as ApiKeyRole, body.scopes),
          expires_at: body.expires_at === undefined ? key.expires_at : readExpiry(body.expires_at, now),
          requests_per_second:
            body.requests_per_second === undefined ? key.requests_per_second : body.requests_per_second,
        };
        requireHandOut(caller, next);
        await updateKey(trx, next);
        return [next, {}];
      });
    },
  });

  app.post(
    '/api/v1/api-keys/:id/rotate',
    {
      config,
      schema: {
        tags,
        summary: 'Give an API key a new secret; the answer is the only one that shows it',
        description:
          'The old secret works until its grace is over, and so do those before it, but none longer than this grace. ' +
          'At most five may work side by side.',
        params: KeyPath,
        body: Type.Object(
          {
            grace_period_seconds: Type.Integer({
              minimum: 0,
              maximum: 604_800,
              default: GRACE_SECONDS,
              description: 'How long the old secret still works; 0 ends it at once.',
            }),
          },
          { additionalProperties: false },
        ),
        response: { 200: CreatedApiKeySchema },
      },
    },
    async (request) => {
      const graceMs = request.body.grace_period_seconds * 1000;
      return change(request, request.params.id, 'api_key.rotated', async (trx, key, now) => {
        const { tenant_id: tenantId, id } = key;
        if (graceMs > 0 && (await countOldSecrets(trx, tenantId, id, now)) >= SECRETS_MAX - 1) {
          throw conflict(
            'too_many_secrets',
            `At most ${SECRETS_MAX} secrets of a key may work at once. Wait until one has ended, or end all old ones with a grace of 0.`,
          );
        }
        const made = createApiKey(key.environment);
        const oldEndsAt = new Date(now.getTime() + graceMs);
        const secret = { keyHash: box.hashKey(made.key), keyHint: made.hint };
        await replaceSecret(trx, { tenantId, id, ...secret, oldEndsAt, now });
        const rotated = { ...key, key_hint: made.hint, rotated_at: now, old_secrets_end_at: oldEndsAt };
        return [rotated, { key: made.key }];
      });
    },
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

const KeyPath = Type.Object({ id: Type.String({ description: 'TypeID, `key_…`.' }) });

const NullableTime = Type.Unsafe<string | null>({ type: ['string', 'null'], format: 'date-time' });

const ScopeNames = { items: { type: 'string', enum: SCOPES } };

const SCOPES_DESCRIPTION = 'The permissions that the key has of those of its role. Null: all of them.';

const Scopes = Type.Unsafe<string[] | null>({
  type: ['array', 'null'],
  ...ScopeNames,
  minItems: 1,
  uniqueItems: true,
  description: SCOPES_DESCRIPTION,
});

/** How long an old secret works unless the request says otherwise: a day to roll out the new one. */
const GRACE_SECONDS = 86_400;

const SECRETS_MAX = 5;

const RequestsPerSecond = Type.Unsafe<number | null>({
  type: ['integer', 'null'],
  minimum: 1,
  maximum: LIMIT_MAX.perSecond,
  description: 'Requests a second with this key, within what its tenant may ask; null: no limit of its own.',
});

const ApiKeySchema = Type.Object({
  id: Type.String({ description: 'TypeID, `key_…`.' }),
  name: Type.String(),
  role: Type.String(),
  environment: Type.String(),
  scopes: Type.Unsafe<string[] | null>({
    type: ['array', 'null'],
    items: { type: 'string' },
    description: SCOPES_DESCRIPTION,
  }),
  key_hint: Type.String({ description: 'The first characters of the key.' }),
  expires_at: NullableTime,
  last_used_at: NullableTime,
  revoked_at: NullableTime,
  rotated_at: NullableTime,
  old_key_expires_at: Type.Unsafe<string | null>({
    type: ['string', 'null'],
    format: 'date-time',
    description: 'Until then secrets from before the last rotation work too. Null: none does.',
  }),
  requests_per_second: RequestsPerSecond,
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

function keyId(text: string): string {
  const id = parseId('apiKey', text);
  if (id === undefined) throw notFound('API key');
  return id;
}

function found(row: ApiKeyRow | undefined): ApiKeyRow {
  if (row === undefined) throw notFound('API key');
  return row;
}

function aboveCaller(caller: Caller, role: string) {
  return forbidden(`The role "${caller.role}" has no say over keys with the role "${role}", which is above it.`);
}

/** Whoever makes, changes or rotates a key could hand it to anyone, himself included. @throws AppError 403 */
function requireHandOut(caller: Caller, key: KeyPowers): void {
  if (!mayGrant(caller.role, key.role)) throw aboveCaller(caller, key.role);
  if (!withinScopes(caller, key))
    throw forbidden('This API key may do less than that key: its scopes leave something out.');
}

/** @throws AppError 422 */
function readScopes(role: ApiKeyRole, scopes: string[] | null | undefined): string[] | null {
  if (scopes === undefined || scopes === null) return null;
  const [beyond] = scopesBeyondRole(role, scopes);
  if (beyond !== undefined)
    throw invalidField('scopes', `may not name "${beyond}": the role "${role}" does not have it`);
  return scopes;
}

function readExpiry(text: string | null | undefined, now: Date): Date | null {
  if (text === undefined || text === null) return null;
  const time = new Date(text);
  // RFC 3339 has leap seconds, which a Date does not.
  if (Number.isNaN(time.getTime())) throw invalidField('expires_at', 'is not a time that exists');
  if (time <= now) throw invalidField('expires_at', 'must be in the future');
  return time;
}

function showKey(row: ApiKeyRow, now: Date) {
  const oldEndsAt = row.revoked_at === null ? row.old_secrets_end_at : null;
  return {
    id: formatId('apiKey', row.id),
    name: row.name,
    role: row.role,
    environment: row.environment,
    scopes: row.scopes,
    key_hint: row.key_hint,
    expires_at: row.expires_at?.toISOString() ?? null,
    last_used_at: row.last_used_at?.toISOString() ?? null,
    revoked_at: row.revoked_at?.toISOString() ?? null,
    rotated_at: row.rotated_at?.toISOString() ?? null,
    old_key_expires_at: oldEndsAt !== null && oldEndsAt > now ? oldEndsAt.toISOString() : null,
    requests_per_second: row.requests_per_second,
    created_at: row.created_at.toISOString(),
  };
}
