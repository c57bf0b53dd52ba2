import { Type } from 'typebox';
import type { Database } from '../db/pool.ts';
import type { Reach } from '../http/caller.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError, conflict, invalidField, invalidFields, notFound } from '../kernel/errors.ts';
import type { RawJson } from '../kernel/raw-json.ts';
import type { Masker } from '../masking/masker.ts';
import { type FieldPath, isOfMany, someValueAt } from '../routing/filters/field-path.ts';
import { FILTER_OPERATORS } from '../routing/filters/filter.ts';
import { compileFilters } from '../routing/filters/filter-set.ts';
import { type FilteredContent, FilteredEvent } from '../routing/filters/filtered-event.ts';
import { FilterModeSchema, FiltersInput, filtersOf, problemsOf } from '../routing/filters/schema.ts';
import type { MaskerOf } from '../tenants/masker-of.ts';
import { orNull } from '../webhooks/nullable.ts';
import { DATA_BYTES_MAX, EventTypeName } from './publish-request.ts';
import { filteredContent, findEvent, findEventId } from './queries.ts';

/** Values shown of a path that leads to many. */
const VALUES_SHOWN_MAX = 20;

/** Characters of JSON that are shown of what is at a path. */
const ACTUAL_LENGTH_MAX = 4_096;

/**
 * `POST /api/v1/filters/test`: what filters say of data, or of an event that was published. It changes and sends nothing.
 *
 * The filters look at the event as it is, and `actual` shows it as the caller may see it. Who asks often enough could so
 * learn what is masked; whoever may call it may have events delivered to a webhook of its own, where nothing is masked.
 */
export function registerFilterTestRoute(
  app: HttpServer,
  deps: { db: Database; clock: Clock; maskerOf: MaskerOf },
): void {
  app.post(
    '/api/v1/filters/test',
    {
      config: { permission: 'develop', portal: 'manage' },
      schema: {
        tags: ['Webhooks'],
        summary: 'Test filters',
        description:
          'Says what filters make of `data`, or of an event that was published (`event_id`), and keeps nothing. ' +
          'docs/filters.md has the rules.',
        body: Type.Object(
          {
            filters: FiltersInput,
            filter_mode: Type.Optional(orNull(FilterModeSchema)),
            data: Type.Optional(
              Type.Unknown({ description: 'Any JSON, at most 1 MB. Give either this or `event_id`.' }),
            ),
            event_type: Type.Optional(
              Type.String({ ...EventTypeName, description: 'Goes with `data` (`filter.test`).' }),
            ),
            metadata: Type.Optional(Type.Object({}, { additionalProperties: true, description: 'Goes with `data`.' })),
            event_id: Type.Optional(
              Type.String({ minLength: 1, maxLength: 256, description: 'Either of the two ids of an event.' }),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            matches: Type.Boolean({ description: 'A webhook with these filters gets the event.' }),
            results: Type.Array(
              Type.Object({
                field_path: Type.String(),
                operator: Type.Enum([...FILTER_OPERATORS]),
                matches: Type.Boolean(),
                actual: Type.Optional(
                  Type.Unknown({
                    description:
                      'What is at the path, masked for those who see events masked; a list, of 20 values at most, where ' +
                      'the path has a `*`. Absent where nothing is there, or more than 4,096 characters.',
                  }),
                ),
              }),
            ),
          }),
        },
      },
    },
    async ({ body, caller, rawJson }) => {
      const filters = filtersOf(body.filters);
      const mode = body.filter_mode ?? 'all';
      const compiled = compileFilters(filters, mode);
      if (!compiled.ok) throw invalidFields(problemsOf(body.filters, compiled.problems));
      const content =
        body.event_id === undefined
          ? givenContent(rawJson, body.event_type, deps.clock.now())
          : await storedContent(deps.db, caller, body);
      if (compiled.set === null) return { matches: true, results: [] };
      const verdicts = compiled.set.explain(new FilteredEvent(content));
      const shown = new FilteredEvent(masked(content, await deps.maskerOf(caller)));
      const results = filters.map(({ field_path, operator }, at) => {
        const { matches, path } = verdicts[at] ?? { matches: false, path: undefined };
        return { field_path, operator, matches, ...(path !== undefined && actualAt(shown, path)) };
      });
      return {
        matches: mode === 'all' ? results.every(({ matches }) => matches) : results.some(({ matches }) => matches),
        results,
      };
    },
  );
}

/** @throws AppError 422, 413 */
function givenContent(raw: RawJson | undefined, type: string | undefined, nowMs: number): FilteredContent {
  const data = raw?.member('data');
  if (data === undefined) throw invalidField('data', 'is required, unless there is an event_id');
  if (data.length > DATA_BYTES_MAX) {
    throw new AppError({
      code: 'payload_too_large',
      message: `data may have ${DATA_BYTES_MAX} bytes at most.`,
    });
  }
  return {
    type: type ?? 'filter.test',
    eventId: null,
    occurredAtMs: nowMs,
    data,
    metadata: raw?.member('metadata') ?? null,
  };
}

/** @throws AppError 422, 404; 409 once the payload is erased. */
async function storedContent(
  db: Database,
  reach: Reach,
  body: { event_id?: string; data?: unknown; event_type?: string; metadata?: unknown },
): Promise<FilteredContent> {
  for (const name of ['data', 'event_type', 'metadata'] as const) {
    if (body[name] !== undefined) throw invalidField(name, 'does not go with event_id');
  }
  const id = await findEventId(db, reach, body.event_id ?? '');
  const row = id === undefined ? undefined : await findEvent(db, reach, id);
  if (row === undefined) throw notFound('event');
  const content = filteredContent(row);
  if (content === undefined) {
    throw conflict('payload_erased', 'The payload of the event was erased; there is nothing to look at.');
  }
  return reach.owner === undefined ? content : { ...content, metadata: null };
}

function masked(content: FilteredContent, masker: Masker): FilteredContent {
  if (masker.reveals) return content;
  const json = (bytes: Buffer) => Buffer.from(masker.json(bytes.toString('utf8')));
  const { eventId, data, metadata } = content;
  return {
    ...content,
    eventId: eventId === null ? null : masker.text(eventId),
    data: json(data),
    metadata: metadata === null ? null : json(metadata),
  };
}

function actualAt(event: FilteredEvent, path: FieldPath): { actual?: unknown } {
  const values: unknown[] = [];
  someValueAt(event, path, true, (value) => values.push(value) === VALUES_SHOWN_MAX);
  if (values.length === 0) return {};
  const actual = isOfMany(path) ? values : values[0];
  return JSON.stringify(actual).length > ACTUAL_LENGTH_MAX ? {} : { actual };
}
