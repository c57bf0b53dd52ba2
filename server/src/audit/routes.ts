import { Readable } from 'node:stream';
import { Type } from 'typebox';
import type { Database } from '../db/pool.ts';
import type { Caller } from '../http/caller.ts';
import { filterText, readTimeFilter } from '../http/filters.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { forbidden, notFound } from '../kernel/errors.ts';
import { parseId } from '../kernel/ids.ts';
import { auditorOf } from './auditor.ts';
import { PLATFORM_CHAIN } from './hash.ts';
import type { AuditLog } from './log.ts';
import {
  type AuditFilter,
  type AuditReach,
  endOfChain,
  exportEntries,
  findEntry,
  listEntries,
  type NamedEntryRow,
} from './queries.ts';
import { AuditEntryShown, showEntry } from './show.ts';

const time = (description: string) => Type.Optional(Type.String({ format: 'date-time', description }));

const ChainQuery = {
  chain: Type.Enum(['tenant', 'platform'], {
    default: 'tenant',
    description:
      '`platform`: what belongs to no tenant, such as unknown keys and the making of tenants. Operator only.',
  }),
};

const FilterQuery = {
  ...ChainQuery,
  action: filterText('E.g. `webhook.updated`.'),
  actor: filterText('Id of the actor, e.g. `key_…`, `operator` or `system`.'),
  resource_type: filterText('E.g. `webhook`.'),
  resource_id: filterText(),
  outcome: Type.Optional(Type.Enum(['success', 'denied'])),
  since: time('Entries from this time on.'),
  until: time('Entries before this time.'),
};

/**
 * `/api/v1/audit`: what was done to the caller's tenant, and what was tried. Owners and the operator see all of the
 * tenant, admins what belongs to their own environment.
 */
export function registerAuditRoutes(app: HttpServer, { db, audit }: { db: Database; audit: AuditLog }): void {
  app.addSchema(AuditEntryShown);
  const config = { permission: 'administer' } as const;
  const tags = ['Audit'];

  app.get(
    '/api/v1/audit',
    {
      config,
      schema: {
        tags,
        summary: 'List audit entries, newest first',
        querystring: Type.Object({ ...PageQuery, ...FilterQuery }),
        response: { 200: PageOf(Type.Ref('AuditEntry')) },
      },
    },
    async ({ query, caller }) => {
      const page = readPage(query);
      const rows = await listEntries(db, reachOf(caller, query.chain), readFilter(query), page);
      return toPage(rows, page.limit, (row) => row.id, showEntry);
    },
  );

  app.get(
    '/api/v1/audit/export',
    {
      config,
      schema: {
        tags,
        summary: 'All audit entries as JSON Lines, oldest first',
        description:
          'With the same filters as the list, without pages. Entries that are made meanwhile are not in it, such as the ' +
          '`audit.exported` of this one. An answer that ends before its last chunk was cut off by a fault.',
        querystring: Type.Object(FilterQuery),
        response: {
          200: {
            description: 'An `AuditEntry` a line.',
            content: { 'application/x-ndjson': { schema: Type.Unsafe<Readable>({ type: 'string' }) } },
          },
        },
      },
    },
    async (request, reply) => {
      const { chain, ...filter } = request.query;
      const reach = reachOf(request.caller, chain);
      const end = await endOfChain(db, reach.tenantId);
      // Nobody takes all of it away without an entry.
      await db.transaction().execute((trx) =>
        audit.record(trx, auditorOf(request), {
          action: 'audit.exported',
          resourceType: 'audit',
          resourceId: chain,
          environmentId: reach.environmentId ?? null,
          ...(chain === 'platform' && { ofPlatform: true }),
          details: filter,
        }),
      );
      const pages = exportEntries(db, reach, readFilter(request.query), end);
      return reply.type('application/x-ndjson').send(Readable.from(linesOf(pages), { objectMode: false }));
    },
  );

  app.get(
    '/api/v1/audit/:id',
    {
      config,
      schema: {
        tags,
        summary: 'An audit entry',
        params: Type.Object({ id: Type.String({ description: '`aud_…`' }) }),
        querystring: Type.Object(ChainQuery),
        response: { 200: Type.Ref('AuditEntry') },
      },
    },
    async ({ params, query, caller }) => {
      const id = parseId('audit', params.id);
      const row = id === undefined ? undefined : await findEntry(db, reachOf(caller, query.chain), id);
      if (row === undefined) throw notFound('audit entry');
      return showEntry(row);
    },
  );
}

/** @throws AppError 403 for the platform's chain, unless the operator asks. */
function reachOf(caller: Caller, chain: 'tenant' | 'platform'): AuditReach {
  if (chain === 'platform') {
    if (caller.role !== 'operator') throw forbidden('The chain of the platform is for the operator only.');
    return { tenantId: PLATFORM_CHAIN, environmentId: undefined };
  }
  const governs = caller.role === 'operator' || caller.role === 'owner';
  return { tenantId: caller.tenantId, environmentId: governs ? undefined : caller.environmentId };
}

interface FilterQuery {
  action?: string;
  actor?: string;
  resource_type?: string;
  resource_id?: string;
  outcome?: 'success' | 'denied';
  since?: string;
  until?: string;
}

function readFilter(query: FilterQuery): AuditFilter {
  const { action, actor, resource_type: resourceType, resource_id: resourceId, outcome } = query;
  return { action, actor, resourceType, resourceId, outcome, ...readTimeFilter(query) };
}

/** A page is read when the one before it is on its way: the memory it takes does not grow with the log. */
async function* linesOf(pages: AsyncGenerator<NamedEntryRow[]>): AsyncGenerator<string> {
  for await (const page of pages) yield page.map((row) => `${JSON.stringify(showEntry(row))}\n`).join('');
}
