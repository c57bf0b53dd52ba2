import type {} from '@fastify/swagger';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import type { Database } from '../db/pool.ts';
import { type Reach, requirePermission } from '../http/caller.ts';
import { PORTAL_ACCESSES } from '../http/permissions.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { invalidField } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { notify } from '../tenants/queries.ts';
import { NoContent } from '../tenants/route-parts.ts';
import { latestRevocation, revokePortalTokens } from './portal-revocations.ts';
import { PORTAL_TOKEN_SECONDS, type PortalClaims, writePortalToken } from './portal-token.ts';

export interface PortalRouteDeps {
  db: Database;
  clock: Clock;
  audit: AuditLog;
  box: SecretBox;
  /** Called after each committed change and before its answer, so that this node's next request sees it. */
  onChange?: (change: Change) => void;
}

/**
 * `/api/v1/portal-tokens`: tokens for what a tenant's customers see. Whoever may change webhooks hands them out, for
 * the environment of the key: a token can do nothing there that its maker could not. Tokens make no tokens.
 */
export function registerPortalTokenRoutes(app: HttpServer, deps: PortalRouteDeps): void {
  const { db, clock, audit, box } = deps;
  const config = { permission: 'develop' } as const;
  const tags = ['Portal tokens'];

  app.post(
    '/api/v1/portal-tokens',
    {
      config,
      schema: {
        tags,
        summary: 'Make a portal token',
        description: 'It is signed and not stored: this answer is the only one that shows it.',
        body: Type.Object(
          {
            owner,
            access: Type.Enum([...PORTAL_ACCESSES], {
              description: '`read` looks; `manage` also changes webhooks, sees their secrets and delivers again.',
            }),
            expires_in_seconds: Type.Integer({
              minimum: PORTAL_TOKEN_SECONDS.min,
              maximum: PORTAL_TOKEN_SECONDS.max,
              default: PORTAL_TOKEN_SECONDS.default,
            }),
          },
          { additionalProperties: false },
        ),
        response: {
          201: Type.Object({
            token: Type.String({ description: '`ph_portal_…`' }),
            expires_at: Type.String({ format: 'date-time' }),
            owner: Type.Union([Type.String(), Type.Null()]),
            access: Type.Enum([...PORTAL_ACCESSES]),
          }),
        },
      },
    },
    async (request, reply) => {
      const { caller, body } = request;
      // Any token reads, which a key with scopes may not.
      requirePermission(caller, 'read');
      refuseUnwritable(body.owner);
      const { tenantId, environmentId } = caller;
      const expiresAtMs = clock.now() + body.expires_in_seconds * 1000;
      const claims: PortalClaims = {
        tenantId,
        environmentId,
        ...(body.owner !== undefined && { owner: body.owner }),
        access: body.access,
        expiresAtMs,
        number: await latestRevocation(db),
      };
      const shown = { owner: body.owner ?? null, access: body.access, expires_at: new Date(expiresAtMs).toISOString() };
      // Nobody gets one without an entry.
      await db.transaction().execute((trx) =>
        audit.record(trx, auditorOf(request), {
          action: 'portal_token.created',
          ...auditedTokens(claims),
          after: shown,
        }),
      );
      return reply.code(201).send({ token: writePortalToken(box, claims), ...shown });
    },
  );

  app.post(
    '/api/v1/portal-tokens/revoke',
    {
      config,
      schema: {
        tags,
        summary: 'Revoke the portal tokens made so far',
        description:
          'Those with the owner, or without `owner` all of the environment, on every node at once. Tokens that are made ' +
          'from now on are good.',
        body: Type.Object({ owner }, { additionalProperties: false }),
        response: { 204: NoContent },
      },
    },
    async (request, reply) => {
      const { caller, body } = request;
      // Any token reads, which a key with scopes may not.
      requirePermission(caller, 'read');
      refuseUnwritable(body.owner);
      const { tenantId, environmentId } = caller;
      const change = { topic: 'portal_tokens', tenantId, environmentId } as const;
      await db.transaction().execute(async (trx) => {
        const reach = { tenantId, environmentId, ...(body.owner !== undefined && { owner: body.owner }) };
        await revokePortalTokens(trx, reach, new Date(clock.now()));
        await notify(trx, change);
        await audit.record(trx, auditorOf(request), {
          action: 'portal_token.revoked',
          ...auditedTokens(reach),
          details: { owner: body.owner ?? null },
        });
      });
      deps.onChange?.(change);
      return reply.code(204).send();
    },
  );
}

/** Tokens are not stored and have no id: what they reach stands for them, one owner or the environment. */
function auditedTokens({ environmentId, owner }: Reach) {
  return { resourceType: 'portal_token', resourceId: owner ?? formatId('environment', environmentId) };
}

/** Neither null nor empty: a customer's id that was forgotten must not become a token for everyone's webhooks. */
const owner = Type.Optional(
  Type.String({
    minLength: 1,
    maxLength: 200,
    pattern: '^[^\\u0000]*$',
    description: 'Only webhooks with exactly this `owner`. Absent: all of the environment.',
  }),
);

/** Halves of surrogate pairs all become the same character in UTF-8: different owners would become one. */
function refuseUnwritable(owner: string | undefined): void {
  if (owner?.isWellFormed() === false) throw invalidField('owner', 'must have no halves of surrogate pairs');
}
