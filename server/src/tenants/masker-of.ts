import { type Caller, permits } from '../http/caller.ts';
import { createMasker, type Masker, REVEALING } from '../masking/masker.ts';
import type { MaskingRules } from '../masking/rules.ts';
import type { TenantDirectory } from './directory.ts';

/** What a caller is shown payloads with. Every route whose answer holds something of a payload asks for it. */
export type MaskerOf = (caller: Caller) => Masker | Promise<Masker>;

/** By the caller's role and the rules of the tenant. A tenant's rules are prepared once for as long as they are known. */
export function createMaskerOf(tenants: Pick<TenantDirectory, 'settings'>): MaskerOf {
  const made = new WeakMap<MaskingRules, Masker>();
  const maskerFor = (rules: MaskingRules): Masker => {
    let masker = made.get(rules);
    if (masker === undefined) {
      masker = createMasker(rules);
      made.set(rules, masker);
    }
    return masker;
  };
  return (caller) => {
    if (permits(caller, 'reveal')) return REVEALING;
    const settings = tenants.settings(caller.tenantId);
    return settings instanceof Promise
      ? settings.then(({ masking }) => maskerFor(masking))
      : maskerFor(settings.masking);
  };
}
