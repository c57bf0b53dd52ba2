import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import type { HttpServer } from '../http/server.ts';
import { notFound } from '../kernel/errors.ts';
import { effectiveRetention, RetentionSchema } from '../tenants/retention.ts';

/** `GET /api/v1/retention`, and for the operator `POST /api/v1/retention/run`. */
export function registerRetentionRoutes(
  app: HttpServer,
  deps: { db: Database; audit: AuditLog; runNow: () => boolean },
): void {
  const tags = ['Retention'];

  app.get(
    '/api/v1/retention',
    {
      config: { permission: 'read' },
      schema: {
        tags,
        summary: 'For how many days records of the environment are kept',
        description:
          'What holds: the settings of the tenant with those of the environment above them. Days count from the end of ' +
          'the day (UTC) on which a record was made.',
        response: { 200: RetentionSchema },
      },
    },
    async ({ caller }) => {
      const row = await deps.db
        .selectFrom('environments')
        .innerJoin('tenants', 'tenants.id', 'environments.tenant_id')
        .select(['tenants.settings', 'environments.retention'])
        .where('environments.tenant_id', '=', caller.tenantId)
        .where('environments.id', '=', caller.environmentId)
        .executeTakeFirst();
      if (row === undefined) throw notFound('environment');
      return effectiveRetention((row.settings as { retention?: unknown } | null)?.retention, row.retention);
    },
  );

  app.post(
    '/api/v1/retention/run',
    {
      config: { permission: 'operate' },
      schema: {
        tags,
        summary: 'Remove what has been kept for long enough now',
        description: 'It is done every hour without being asked. The work goes on after the answer.',
        response: {
          202: Type.Object({
            started: Type.Boolean({ description: 'false: this process is at it already.' }),
          }),
        },
      },
    },
    async (request, reply) => {
      await deps.db.transaction().execute((trx) =>
        deps.audit.record(trx, auditorOf(request), {
          action: 'retention.run',
          resourceType: 'retention',
          resourceId: 'all',
          environmentId: null,
          ofPlatform: true,
        }),
      );
      return reply.code(202).send({ started: deps.runNow() });
    },
  );
}
