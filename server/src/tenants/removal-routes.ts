import { Type } from 'typebox';
import { onlyPage, PageOf } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { formatId } from '../kernel/ids.ts';
import { listRemovals, type RemovalRow } from './removal.ts';
import type { TenantRouteDeps } from './route-parts.ts';

const SHOWN_MAX = 1_000;

const RemovalShown = Type.Object({
  tenant_id: Type.String(),
  environment_id: Type.Union([Type.String(), Type.Null()], { description: 'null: the whole tenant.' }),
  removed_rows: Type.Integer({ description: 'Records removed so far.' }),
  created_at: Type.String({ description: 'When it was deleted.' }),
});

/** `GET /api/v1/removals`: what is left of deleted tenants and environments. */
export function registerRemovalRoutes(app: HttpServer, { db }: Pick<TenantRouteDeps, 'db'>): void {
  app.get(
    '/api/v1/removals',
    {
      config: { permission: 'operate' },
      schema: {
        tags: ['Tenants'],
        summary: 'List deleted tenants and environments whose records are still being removed',
        description:
          'The oldest first, 1,000 at most. One that is not in the list has left nothing. It stays in it for at least ' +
          'two minutes, for what was under way when it was deleted.',
        response: { 200: PageOf(RemovalShown) },
      },
    },
    async () => onlyPage((await listRemovals(db, SHOWN_MAX)).map(showRemoval)),
  );
}

function showRemoval(row: RemovalRow) {
  return {
    tenant_id: formatId('tenant', row.tenant_id),
    environment_id: row.target_id === row.tenant_id ? null : formatId('environment', row.target_id),
    removed_rows: row.removed,
    created_at: row.created_at.toISOString(),
  };
}
