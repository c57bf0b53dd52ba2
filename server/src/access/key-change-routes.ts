import type {} from '@fastify/swagger';
import type { FastifyRequest } from 'fastify';
import type { Transaction } from 'kysely';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { Tables } from '../db/tables.ts';
import type { HttpServer } from '../http/server.ts';
import { conflict } from '../kernel/errors.ts';
import { notify } from '../tenants/queries.ts';
import { DisplayName } from '../tenants/types.ts';
import { createApiKey } from './key.ts';
import type { ApiKeyRole } from './key-roles.ts';
import { ApiKeySchema, CreatedApiKeySchema, NullableTime, RequestsPerSecond, Scopes, showKey } from './key-schema.ts';
import { type ApiKeyRow, countOldSecrets, lockKey, replaceSecret, updateKey } from './queries.ts';
import {
  type ApiKeyRouteDeps,
  auditedKey,
  found,
  KeyPath,
  keyId,
  reachOf,
  readExpiry,
  readScopes,
  requireHandOut,
} from './route-parts.ts';

/** Changes and rotations of an API key, of which every node hears. */
export function registerKeyChangeRoutes(app: HttpServer, deps: ApiKeyRouteDeps): void {
  const { db, clock, audit, box } = deps;
  const config = { permission: 'administer' } as const;
  const tags = ['API keys'];

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
}

/** How long an old secret works unless the request says otherwise: a day to roll out the new one. */
const GRACE_SECONDS = 86_400;

const SECRETS_MAX = 5;
