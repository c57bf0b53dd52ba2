import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { Caller } from '../http/caller.ts';
import type { HttpServer } from '../http/server.ts';
import { notFound } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import { environmentPreset } from '../tenants/environment-preset.ts';
import { orNull } from './nullable.ts';
import { findWebhook, readOwnSettings } from './rows.ts';
import { SecretsShown } from './schema.ts';
import { GRACE_SECONDS, rotateSecret } from './secret-commands.ts';
import { liveSecrets } from './secrets.ts';
import { resolveSettings } from './settings.ts';
import { showSecrets } from './show.ts';
import type { WebhookStore } from './store.ts';
import { WebhookPath, webhookId } from './webhook-path.ts';

const RotateInput = Type.Object(
  {
    secret: Type.Optional(
      orNull(
        Type.String({ maxLength: 512, description: 'The new shared secret; one is generated when it is absent.' }),
      ),
    ),
    grace_period_seconds: Type.Optional(
      orNull(
        Type.Integer({
          minimum: 0,
          maximum: 604_800,
          default: GRACE_SECONDS,
          description: 'How long the replaced secret goes on signing beside the new one.',
        }),
      ),
    ),
  },
  { additionalProperties: false },
);

/** `/api/v1/webhooks/{id}/secret`. Only those who may change webhooks see secrets. */
export function registerSecretRoutes(app: HttpServer, deps: WebhookStore): void {
  const config = { permission: 'develop', portal: 'manage' } as const;
  const tags = ['Webhooks'];

  app.get(
    '/api/v1/webhooks/:id/secret',
    {
      config,
      schema: { tags, summary: 'Get the secret of a webhook', params: WebhookPath, response: { 200: SecretsShown } },
    },
    async (request) => {
      const id = webhookId(request.params.id);
      const secrets = await readSecrets(deps, request.caller, id);
      const done = {
        action: 'webhook.secret_read',
        resourceType: 'webhook',
        resourceId: formatId('webhook', id),
      } as const;
      // Nobody gets to see it without an entry.
      await deps.db.transaction().execute((trx) => deps.audit.record(trx, auditorOf(request), done));
      return secrets;
    },
  );

  app.post(
    '/api/v1/webhooks/:id/secret/rotate',
    {
      config,
      schema: {
        tags,
        summary: 'Replace the secret of a webhook',
        description:
          'Without `secret` one is generated, and a webhook that signs asymmetrically also gets a new key pair. What ' +
          'is replaced goes on signing until its grace has ended; at most five may sign side by side.',
        params: WebhookPath,
        body: orNull(RotateInput),
        response: { 200: SecretsShown },
      },
    },
    async (request) => {
      const id = webhookId(request.params.id);
      // A POST without a body asks for all the defaults.
      const { secret, grace_period_seconds } = request.body ?? {};
      const graceSeconds = grace_period_seconds ?? GRACE_SECONDS;
      await rotateSecret(deps, auditorOf(request), id, { secret: secret ?? undefined, graceSeconds });
      return readSecrets(deps, request.caller, id);
    },
  );
}

async function readSecrets(deps: WebhookStore, caller: Caller, id: string): Promise<SecretsShown> {
  const row = await findWebhook(deps.db, caller, id);
  if (row === undefined) throw notFound('webhook');
  const secrets = await liveSecrets(deps.db, caller.tenantId, [id], deps.clock.now());
  const { signature } = resolveSettings(readOwnSettings(row), await environmentPreset(deps.db, caller));
  await deps.box.learn(secrets.map((secret) => secret.box));
  return showSecrets(secrets, caller.tenantId, signature.asymmetric, deps.box);
}
