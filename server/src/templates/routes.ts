import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { Caller } from '../http/caller.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import { may } from '../http/permissions.ts';
import type { HttpServer } from '../http/server.ts';
import { notFound } from '../kernel/errors.ts';
import { formatId, parseId } from '../kernel/ids.ts';
import { type Masker, REVEALING } from '../masking/masker.ts';
import type { TemplateContent } from '../shaping/transformation.ts';
import type { MaskerOf } from '../tenants/masker-of.ts';
import { changeTemplate, createTemplate, deleteTemplate, rollBackTemplate, type TemplateStore } from './commands.ts';
import { findTemplate, listTemplates, listVersions, type TemplateRow } from './rows.ts';
import { readSample } from './sample.ts';
import { TemplateChangeBody, TemplateInput, TemplateShown, TestShown, VersionShown } from './schema.ts';
import { type TestDeps, testTemplate } from './test-template.ts';

export type TemplateRouteDeps = TemplateStore & TestDeps & { maskerOf: MaskerOf };

const TemplatePath = Type.Object({ id: Type.String({ description: '`tpl_…`' }) });

/** `/api/v1/templates`: the stored templates of an environment and their versions. */
export function registerTemplateRoutes(app: HttpServer, deps: TemplateRouteDeps): void {
  const { db } = deps;
  const read = { permission: 'read' } as const;
  const develop = { permission: 'develop' } as const;
  const tags = ['Templates'];
  app.addSchema(TemplateShown);
  const shown = { 200: Type.Ref('Template') };

  app.post(
    '/api/v1/templates',
    {
      config: develop,
      schema: { tags, summary: 'Create a template', body: TemplateInput, response: { 201: Type.Ref('Template') } },
    },
    async (request, reply) => {
      const id = await createTemplate(deps, auditorOf(request), request.body);
      return reply.code(201).send(await readShown(deps, request.caller, id));
    },
  );

  app.get(
    '/api/v1/templates',
    {
      config: read,
      schema: {
        tags,
        summary: 'List templates',
        querystring: Type.Object({
          ...PageQuery,
          name: Type.Optional(Type.String({ maxLength: 100, pattern: '^[^\\u0000]*$' })),
          event_type: Type.Optional(Type.String({ maxLength: 200, pattern: '^[^\\u0000]*$' })),
        }),
        response: { 200: PageOf(Type.Ref('Template')) },
      },
    },
    async (request) => {
      const page = readPage(request.query);
      const rows = await listTemplates(db, request.caller, request.query, page);
      const masker = await maskerFor(deps, request.caller);
      return toPage(
        rows,
        page.limit,
        (row) => row.id,
        (row) => show(row, request.caller, masker),
      );
    },
  );

  app.get(
    '/api/v1/templates/:id',
    { config: read, schema: { tags, summary: 'Get a template', params: TemplatePath, response: shown } },
    async (request) => readShown(deps, request.caller, templateId(request.params.id)),
  );

  app.route({
    method: ['PUT', 'PATCH'],
    url: '/api/v1/templates/:id',
    config: develop,
    schema: {
      tags,
      summary: 'Change a template',
      description:
        'Both methods merge: an absent field stays as it is, null gives it its default back. A change of what it says ' +
        'is a new version, which shapes all requests from then on.',
      params: TemplatePath,
      body: TemplateChangeBody,
      response: shown,
    },
    handler: async (request) => {
      const id = templateId(request.params.id);
      await changeTemplate(deps, auditorOf(request), id, request.body);
      return readShown(deps, request.caller, id);
    },
  });

  app.delete(
    '/api/v1/templates/:id',
    {
      config: develop,
      schema: {
        tags,
        summary: 'Delete a template',
        description: 'Refused while a webhook has no other template of the name.',
        params: TemplatePath,
        response: { 204: Type.Unsafe<undefined>({ type: 'null', description: 'Done.' }) },
      },
    },
    async (request, reply) => {
      await deleteTemplate(deps, auditorOf(request), templateId(request.params.id));
      return reply.code(204).send();
    },
  );

  registerVersionRoutes(app, deps);

  app.post(
    '/api/v1/templates/:id/test',
    {
      config: develop,
      schema: {
        tags,
        summary: 'Try a template on a sample',
        description:
          'Nothing is sent. `sample` is the `data` of an event, or a whole one: `event_type` and `data`, with `event_id`, ' +
          '`timestamp` and `metadata` if it has them. Without it, the sample of the event type.',
        params: TemplatePath,
        body: Type.Object(
          {
            sample: Type.Optional(Type.Unknown()),
            event_type: Type.Optional(Type.String({ minLength: 1, maxLength: 200, pattern: '^[^\\u0000]*$' })),
            metadata: Type.Optional(Type.Unsafe<object>({ type: 'object', additionalProperties: true })),
          },
          { additionalProperties: false },
        ),
        response: { 200: TestShown },
      },
    },
    async (request) => {
      const row = await findTemplate(db, request.caller, templateId(request.params.id));
      if (row === undefined) throw notFound('template');
      const { rawJson } = request;
      const sample = rawJson?.member('sample');
      const input = {
        sample: sample && readSample(sample),
        eventType: request.body.event_type,
        metadata: rawJson?.member('metadata')?.toString(),
      };
      return testTemplate(deps, request.caller, row, input, deps.clock.now());
    },
  );
}

function registerVersionRoutes(app: HttpServer, deps: TemplateRouteDeps): void {
  const { db } = deps;
  const tags = ['Templates'];

  app.get(
    '/api/v1/templates/:id/versions',
    {
      config: { permission: 'read' },
      schema: {
        tags,
        summary: 'List the versions of a template',
        description: 'The newest first; the last hundred are kept.',
        params: TemplatePath,
        response: { 200: PageOf(VersionShown) },
      },
    },
    async (request) => {
      const row = await findTemplate(db, request.caller, templateId(request.params.id));
      if (row === undefined) throw notFound('template');
      const versions = await listVersions(db, row.tenant_id, row.id);
      const masker = await maskerFor(deps, request.caller);
      const data = versions.map(({ version, content, created_at }) => ({
        version,
        is_current: version === row.version,
        ...showContent(content, masker),
        created_at: created_at.toISOString(),
      }));
      return { data, next_cursor: null, has_more: false };
    },
  );

  app.post(
    '/api/v1/templates/:id/rollback',
    {
      config: { permission: 'develop' },
      schema: {
        tags,
        summary: 'Put an earlier version of a template in force',
        params: TemplatePath,
        body: Type.Object(
          { version: Type.Integer({ minimum: 1, maximum: 2_147_483_647 }) },
          { additionalProperties: false },
        ),
        response: { 200: Type.Ref('Template') },
      },
    },
    async (request) => {
      const id = templateId(request.params.id);
      await rollBackTemplate(deps, auditorOf(request), id, request.body.version);
      return readShown(deps, request.caller, id);
    },
  );
}

/** @throws AppError 404 for a text that can be no template's id. */
function templateId(text: string): string {
  const id = parseId('template', text);
  if (id === undefined) throw notFound('template');
  return id;
}

/** @throws AppError 404 */
async function readShown(deps: TemplateRouteDeps, caller: Caller, id: string): Promise<TemplateShown> {
  const row = await findTemplate(deps.db, caller, id);
  if (row === undefined) throw notFound('template');
  return show(row, caller, await maskerFor(deps, caller));
}

/** Who may change a template sees it as it is: what was read is often sent back. */
function maskerFor({ maskerOf }: TemplateRouteDeps, caller: Caller): Masker | Promise<Masker> {
  return may(caller.role, 'develop') ? REVEALING : maskerOf(caller);
}

function show(row: TemplateRow, caller: Caller, masker: Masker): TemplateShown {
  return {
    id: formatId('template', row.id),
    tenant_id: formatId('tenant', row.tenant_id),
    environment: caller.environmentName,
    name: row.name,
    event_type: row.event_type,
    description: row.description,
    version: row.version,
    ...showContent(row.content, masker),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

function showContent({ template, language, native, content_type, headers = {} }: TemplateContent, masker: Masker) {
  const shown = masker.reveals ? template : JSON.parse(masker.json(JSON.stringify(template)));
  return { template: shown, language, native, content_type, headers: masker.headers({ ...headers }) };
}
