import type {} from '@fastify/swagger';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import { onlyPage, PageOf } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { notFound } from '../kernel/errors.ts';
import { changeCatalog, refuseTooMuch } from './change-catalog.ts';
import { installPreset } from './install-preset.ts';
import { findPreset, presets } from './presets/presets.ts';
import type { CatalogRouteDeps } from './route-parts.ts';

const PresetSummary = Type.Object({
  name: Type.String(),
  title: Type.String(),
  description: Type.String(),
  event_type_count: Type.Integer(),
  delivery: Type.Unsafe<object>({
    type: 'object',
    additionalProperties: true,
    description: 'What a webhook of the environment has where it says nothing itself, under the webhook’s field names.',
  }),
});

/** `/api/v1/event-types/presets`: the catalogues and delivery conventions that come with Posthorn. */
export function registerPresetRoutes(app: HttpServer, deps: CatalogRouteDeps): void {
  const tags = ['Event types'];

  app.get(
    '/api/v1/event-types/presets',
    {
      config: { permission: 'read' },
      schema: { tags, summary: 'List presets', response: { 200: PageOf(PresetSummary) } },
    },
    async () =>
      onlyPage(
        [...presets.values()].map(({ name, title, description, delivery, event_types: types }) => ({
          name,
          title,
          description,
          event_type_count: types.length,
          delivery,
        })),
      ),
  );

  app.post(
    '/api/v1/event-types/presets/:preset',
    {
      config: { permission: 'develop' },
      schema: {
        tags,
        summary: 'Install a preset',
        description:
          'Adds its event types, or brings back their texts, schemas and samples where they are already there, and ' +
          'makes its envelope, headers and retry policy those of the environment. Installing twice is the same as once.',
        params: Type.Object({ preset: Type.String() }),
        response: {
          200: Type.Object({
            preset: Type.String(),
            installed: Type.Integer({ description: 'Event types the preset has.' }),
            event_types: Type.Array(Type.String()),
          }),
        },
      },
    },
    async (request) => {
      const preset = findPreset(request.params.preset);
      if (preset === undefined) throw notFound('preset');
      const { caller } = request;
      await changeCatalog(
        deps,
        auditorOf(request),
        async (trx, replaced) => {
          await installPreset(trx, caller, preset, new Date(deps.clock.now()));
          await refuseTooMuch(trx, caller);
          const after = { preset: preset.name, event_types: preset.event_types.length };
          const resource = { resourceType: 'preset', resourceId: preset.name };
          return {
            result: undefined,
            done: { action: 'preset.installed', ...resource, before: { preset: replaced }, after },
          };
        },
        // The environment's preset is part of its tenant, and webhooks take their defaults from it.
        ['event_types', 'tenants', 'webhooks'],
      );
      const names = preset.event_types.map(({ name }) => name);
      return { preset: preset.name, installed: names.length, event_types: names };
    },
  );
}
