import { Type } from 'typebox';
import { auditorOf } from '../../audit/auditor.ts';
import { changeCatalog, EVENT_TYPES_MAX, refuseTooMuch } from '../../catalog/change-catalog.ts';
import { listEventTypes } from '../../catalog/queries.ts';
import type { CatalogRouteDeps } from '../../catalog/route-parts.ts';
import type { HttpServer } from '../../http/server.ts';
import { malformed } from '../../kernel/errors.ts';
import { formatId } from '../../kernel/ids.ts';
import { type PlannedType, planImport, writeImport } from './import-event-types.ts';
import { readOpenApiDocument } from './read-document.ts';

/** Bytes of a document. */
const DOCUMENT_BYTES_MAX = 4_194_304;

/** Levels of an OpenAPI document around its schemas, which may nest as deep as anything. */
const DOCUMENT_LEVELS = 12;

const ImportAnswer = Type.Object({
  dry_run: Type.Boolean(),
  created: Type.Integer(),
  updated: Type.Integer(),
  skipped: Type.Integer(),
  data: Type.Array(
    Type.Object({
      name: Type.String(),
      result: Type.Enum(['created', 'updated', 'skipped']),
      reason: Type.Optional(
        Type.Enum(['unchanged', 'exists'], { description: 'Why it is skipped: it is the same already, or is kept.' }),
      ),
    }),
  ),
});

/** `POST /api/v1/event-types/import`. */
export function registerImportRoute(app: HttpServer, deps: CatalogRouteDeps): void {
  app.post(
    '/api/v1/event-types/import',
    {
      config: { permission: 'develop', enclosingLevels: DOCUMENT_LEVELS },
      bodyLimit: DOCUMENT_BYTES_MAX,
      schema: {
        tags: ['Event types'],
        summary: 'Import event types from an OpenAPI document',
        description:
          'Each of its `webhooks` (`x-webhooks` in OpenAPI 3.0) and callbacks becomes an event type of that name: with ' +
          'the first tag as group, the description, the schema of the request’s JSON body, and its example as sample. ' +
          'References within the document are followed; nothing is fetched. All types are written, or none.',
        querystring: Type.Object({
          dry_run: Type.Boolean({ default: false, description: 'Says what would be done, and does nothing.' }),
          existing: Type.Enum(['update', 'skip'], {
            default: 'update',
            description: 'What becomes of types that are there: what the document says of them, or nothing.',
          }),
          data_property: Type.Optional(
            Type.String({
              minLength: 1,
              maxLength: 128,
              description:
                'The property of the bodies that holds an event’s data, such as `data`; else all of the body.',
            }),
          ),
        }),
        body: Type.Object({}, { additionalProperties: true, description: 'An OpenAPI document, 3.0 or 3.1, as JSON.' }),
        response: { 200: ImportAnswer },
      },
    },
    async (request) => {
      const { caller, query, rawJson } = request;
      if (rawJson === undefined) throw malformed('The body is empty; an OpenAPI document is needed.');
      const imported = await readOpenApiDocument(rawJson, query.data_property);
      try {
        const plan = await changeCatalog(deps, auditorOf(request), async (trx) => {
          const rows = await listEventTypes(trx, caller, { limit: EVENT_TYPES_MAX });
          const planned = planImport(imported, new Map(rows.map((row) => [row.name, row])), query.existing);
          await writeImport(trx, caller, planned, new Date(deps.clock.now()));
          await refuseTooMuch(trx, caller);
          const after = { created: namesOf(planned, 'created'), updated: namesOf(planned, 'updated') };
          if (query.dry_run || after.created.length + after.updated.length === 0) throw new NothingIsDone(planned);
          const resource = { resourceType: 'environment', resourceId: formatId('environment', caller.environmentId) };
          return { result: planned, done: { action: 'event_types.imported', ...resource, after } };
        });
        return answerOf(plan, query.dry_run);
      } catch (error) {
        if (error instanceof NothingIsDone) return answerOf(error.plan, query.dry_run);
        throw error;
      }
    },
  );
}

/** Undoes the transaction: a trial run does all that the import itself does, so it finds out all that can be wrong. */
class NothingIsDone extends Error {
  readonly plan: PlannedType[];

  constructor(plan: PlannedType[]) {
    super();
    this.plan = plan;
  }
}

function answerOf(plan: readonly PlannedType[], dryRun: boolean) {
  const [created, updated, skipped] = (['created', 'updated', 'skipped'] as const).map(
    (each) => namesOf(plan, each).length,
  );
  return {
    dry_run: dryRun,
    created: created ?? 0,
    updated: updated ?? 0,
    skipped: skipped ?? 0,
    data: plan.map(({ name, result, reason }) => ({ name, result, ...(reason && { reason }) })),
  };
}

function namesOf(plan: readonly PlannedType[], result: PlannedType['result']): string[] {
  return plan.filter((type) => type.result === result).map(({ name }) => name);
}
