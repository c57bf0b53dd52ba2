import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { Caller } from '../http/caller.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import { may } from '../http/permissions.ts';
import type { HttpServer } from '../http/server.ts';
import { notFound } from '../kernel/errors.ts';
import { type Masker, REVEALING } from '../masking/masker.ts';
import { environmentPreset } from '../tenants/environment-preset.ts';
import type { MaskerOf } from '../tenants/masker-of.ts';
import { changeWebhook, createWebhook, deleteWebhook } from './commands.ts';
import { judgeInput, type WebhookJudge } from './judge-input.ts';
import {
  type CountedWebhookRow,
  findWebhook,
  listWebhooks,
  readLaneSettings,
  readOwnSettings,
  readTransformation,
  sealedIn,
} from './rows.ts';
import { WebhookChange, WebhookCreated, WebhookInput, WebhookShown } from './schema.ts';
import { registerSecretRoutes } from './secret-routes.ts';
import { type LiveSecret, liveSecrets } from './secrets.ts';
import { changesIn } from './sent-back.ts';
import { resolveSettings, WEBHOOK_STATUSES } from './settings.ts';
import { showWebhook } from './show.ts';
import { setWebhookStatus } from './status-commands.ts';
import type { WebhookStore } from './store.ts';
import { WebhookPath, webhookId } from './webhook-path.ts';

export type WebhookRouteDeps = WebhookStore & WebhookJudge & { maskerOf: MaskerOf };

const searched = (maxLength: number, description: string) =>
  Type.Optional(Type.String({ minLength: 1, maxLength, pattern: '^[^\\u0000]*$', description }));

const ListQuery = Type.Object({
  ...PageQuery,
  event: searched(200, 'An event type: the webhooks that get it. A pattern: those that have it.'),
  active_only: Type.Optional(Type.Boolean()),
  status: Type.Optional(Type.Enum([...WEBHOOK_STATUSES])),
  owner: searched(200, 'Exactly this owner.'),
  q: searched(200, 'A part of the name, the URL or the description; for a viewer, of the name.'),
});

/** It stands in so many answers that the reference has it once. */
const WEBHOOK = Type.Ref('Webhook');

/** `/api/v1/webhooks`: the webhooks of an environment, their status and their secrets. */
export function registerWebhookRoutes(app: HttpServer, deps: WebhookRouteDeps): void {
  const read = { permission: 'read', portal: 'read' } as const;
  const develop = { permission: 'develop', portal: 'manage' } as const;
  const tags = ['Webhooks'];
  app.addSchema({ ...WebhookShown, $id: 'Webhook', title: 'Webhook' });

  app.post(
    '/api/v1/webhooks',
    {
      config: develop,
      schema: { tags, summary: 'Create a webhook', body: WebhookInput, response: { 201: WebhookCreated } },
    },
    async (request, reply) => {
      const { caller } = request;
      const { secret, ...settings } = request.body;
      await judgeInput(deps, caller, settings);
      // null asks for a generated one, as an absent secret does.
      const created = await createWebhook(deps, auditorOf(request), { ...settings, ...(secret != null && { secret }) });
      const shown = await readShown(deps, caller, created.id);
      return reply.code(201).send({ ...shown, secret: created.secret });
    },
  );

  app.get(
    '/api/v1/webhooks',
    {
      config: read,
      schema: { tags, summary: 'List webhooks', querystring: ListQuery, response: { 200: PageOf(WEBHOOK) } },
    },
    async (request) => {
      const page = readPage(request.query);
      // Who could search in what is masked could guess it, a letter at a time.
      const qInNames = !may(request.caller.role, 'develop');
      const rows = await listWebhooks(deps.db, request.caller, { ...request.query, qInNames }, page);
      const show = await shower(deps, request.caller, rows.slice(0, page.limit));
      return toPage(rows, page.limit, (row) => row.id, show);
    },
  );

  app.get(
    '/api/v1/webhooks/:id',
    {
      config: read,
      schema: { tags, summary: 'Get a webhook', params: WebhookPath, response: { 200: WEBHOOK } },
    },
    async (request) => readShown(deps, request.caller, webhookId(request.params.id)),
  );

  app.route({
    method: ['PUT', 'PATCH'],
    url: '/api/v1/webhooks/:id',
    config: develop,
    schema: {
      tags,
      summary: 'Change a webhook',
      description:
        'Both methods merge: an absent field stays as it is, null gives it its default back. What GET answers may be ' +
        'sent back whole.',
      params: WebhookPath,
      body: WebhookChange,
      response: { 200: WEBHOOK },
    },
    handler: async (request) => {
      const id = webhookId(request.params.id);
      const row = await findWebhook(deps.db, request.caller, id);
      if (row === undefined) throw notFound('webhook');
      const show = await shower(deps, request.caller, [row]);
      const change = changesIn(request.body, show(row));
      const { url, failover_url: failoverUrl, ip_whitelist: ipWhitelist } = row;
      const transformation = readTransformation(row);
      const { batching } = readLaneSettings(row);
      await judgeInput(deps, request.caller, change, { url, failoverUrl, ipWhitelist, transformation, batching });
      await changeWebhook(deps, auditorOf(request), id, change);
      return readShown(deps, request.caller, id);
    },
  });

  app.delete(
    '/api/v1/webhooks/:id',
    {
      config: develop,
      schema: {
        tags,
        summary: 'Delete a webhook',
        description: 'Deliveries that wait for it end as `discarded`; its history stays.',
        params: WebhookPath,
        response: { 204: Type.Unsafe<undefined>({ type: 'null', description: 'Done.' }) },
      },
    },
    async (request, reply) => {
      await deleteWebhook(deps, auditorOf(request), webhookId(request.params.id));
      return reply.code(204).send();
    },
  );

  for (const [url, status, action, summary] of [
    ['pause', 'paused', 'paused', 'Keep the events of a webhook for later'],
    ['resume', 'active', 'resumed', 'Go on with a paused webhook, kept events first'],
    ['enable', 'active', 'enabled', 'Go on with a disabled webhook, kept events first'],
  ] as const) {
    app.post(
      `/api/v1/webhooks/:id/${url}`,
      { config: develop, schema: { tags, summary, params: WebhookPath, response: { 200: WEBHOOK } } },
      async (request) => {
        const id = webhookId(request.params.id);
        await setWebhookStatus(deps, auditorOf(request), id, status, action);
        return readShown(deps, request.caller, id);
      },
    );
  }

  registerSecretRoutes(app, deps);
}

/** @throws AppError 404 */
async function readShown(deps: WebhookRouteDeps, caller: Caller, id: string): Promise<WebhookShown> {
  const row = await findWebhook(deps.db, caller, id);
  if (row === undefined) throw notFound('webhook');
  const show = await shower(deps, caller, [row]);
  return show(row);
}

/** Reads what the rows need beside themselves, once for all of them, and returns how one is shown. */
async function shower(
  deps: WebhookRouteDeps,
  caller: Caller,
  rows: readonly CountedWebhookRow[],
): Promise<(row: CountedWebhookRow) => WebhookShown> {
  const { db, box, clock } = deps;
  const environment = { name: caller.environmentName, preset: await environmentPreset(db, caller) };
  const asymmetric = rows.filter(
    (row) => resolveSettings(readOwnSettings(row), environment.preset).signature.asymmetric,
  );
  const ids = asymmetric.map((row) => row.id);
  const live = await liveSecrets(db, caller.tenantId, ids, clock.now());
  const secrets = Map.groupBy(live, (each) => each.webhookId);
  await box.learn([...rows.flatMap(sealedIn), ...live.map((secret) => secret.box)]);
  const none: LiveSecret[] = [];
  const masker = await settingsMasker(deps, caller);
  return (row) => showWebhook(row, secrets.get(row.id) ?? none, environment, box, masker);
}

/** Who may change a webhook sees its settings as they are: what was read is often sent back. */
function settingsMasker({ maskerOf }: WebhookRouteDeps, caller: Caller): Masker | Promise<Masker> {
  return may(caller.role, 'develop') ? REVEALING : maskerOf(caller);
}
