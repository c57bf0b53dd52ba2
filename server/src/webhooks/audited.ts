import { hidden, hiddenUrl } from '../audit/changed-fields.ts';
import { REVEALING } from '../masking/masker.ts';
import { isSecretHeader } from '../masking/secret-names.ts';
import { withoutSecrets } from './auth/settings.ts';
import { pairs } from './headers.ts';
import type { WebhookSettings } from './settings.ts';
import { showSettings } from './show.ts';

/**
 * A webhook's settings for the audit log: as the API shows them, once each, with what may be a credential hidden. A
 * change of a credential is noticed.
 */
export function auditedSettings(settings: WebhookSettings, environmentPreset: string): object {
  const { is_active, signature_method, retry_count, ...shown } = showSettings(settings, environmentPreset, REVEALING);
  return {
    ...shown,
    url: hiddenUrl(settings.url),
    failover_url: hiddenUrl(settings.failoverUrl),
    auth: withoutSecrets(settings.auth, (value) => value, hidden),
    headers: Object.fromEntries(
      pairs(settings.headers).map(([name, value]) => [name, isSecretHeader(name) ? hidden(value) : value]),
    ),
  };
}
