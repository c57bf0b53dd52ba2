import type { AllowList } from './allow-list.ts';
import { type AddressReason, classifyAddress } from './classify-address.ts';

/** Why an address is refused, or undefined when it is public or allowed; `hostname` is the name that led to it. */
export function refusedReason(allow: AllowList, address: string, hostname?: string): AddressReason | undefined {
  const found = classifyAddress(address);
  if (found === 'public' || allow.hasAddress(address)) return undefined;
  // Credentials of the machine itself are served there: a name or a wide range that happens to lead to it is not enough.
  if (found !== 'metadata' && hostname !== undefined && allow.hasHost(hostname)) return undefined;
  return found;
}

/** The sentence for a refused address. It does not tell the address, which a tenant could use to map a network. */
export function refusal(reason: AddressReason): string {
  return `The destination is not a public address (${reason.replaceAll('_', ' ')}).`;
}
