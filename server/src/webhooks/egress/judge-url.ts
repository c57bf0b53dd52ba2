import type { AllowList } from './allow-list.ts';
import { hostKey } from './allow-list.ts';
import { classifyAddress } from './classify-address.ts';
import { refusal, refusedReason } from './refused-reason.ts';

/** `reason` is a sentence for the person who wrote the URL. */
export type UrlVerdict = { ok: true; url: URL } | { ok: false; reason: string };

export const URL_LENGTH_MAX = 2_048;

/**
 * Judges a webhook's URL by its text. It is read by the same WHATWG parser that deliveries use, so `0x7f.1`,
 * `2130706433` and full-width digits are the address that a connect would take them for.
 */
export function judgeUrl(text: string, allow: AllowList, requireHttps: boolean): UrlVerdict {
  if (text.length > URL_LENGTH_MAX) return refuse(`It is longer than ${URL_LENGTH_MAX} characters.`);
  // The parser drops tabs and line ends, and takes backslashes for slashes: what is judged would not be what is read.
  if (/[\p{Cc}\s\\]/u.test(text)) return refuse('It must have no spaces, control characters or backslashes.');
  if (!/^https?:\/\/[^/?#]/i.test(text) || !URL.canParse(text)) {
    return refuse('It must be an absolute URL with https:// or http://.');
  }
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    return refuse('It must have no user name or password; use a header for credentials.');
  }
  if (text.includes('#')) return refuse('It must have no fragment (#): it is never sent.');
  if (url.port !== '' && REFUSED_PORTS.has(Number(url.port))) return refuse('Its port belongs to another protocol.');
  return judgeHost(url, allow, requireHttps);
}

function judgeHost(url: URL, allow: AllowList, requireHttps: boolean): UrlVerdict {
  const host = hostKey(url.hostname.replace(/^\[|\]$/g, ''));
  const isName = classifyAddress(host) === 'unreadable';
  if (isName && (host.length > 253 || host.split('.').some((label) => label === '' || label.length > 63))) {
    return refuse('Its host name is not valid.');
  }
  const address = isName ? addressOfName(host) : host;
  if (address !== undefined) {
    const reason = refusedReason(allow, address, host);
    if (reason !== undefined) return refuse(refusal(reason));
  }
  const named = allow.hasHost(host) || (address !== undefined && allow.hasAddress(address));
  if (url.protocol === 'http:' && requireHttps && !named) return refuse('It must be an https:// URL.');
  return { ok: true, url };
}

/**
 * The address of a name that is known without asking: `localhost` (RFC 6761, section 6.3), and the clouds' metadata
 * services. `host` is a `hostKey`.
 */
export function addressOfName(host: string): string | undefined {
  if (host === 'localhost' || host.endsWith('.localhost')) return '127.0.0.1';
  return METADATA_NAMES.has(host) ? '169.254.169.254' : undefined;
}

/** Amazon, Google, Equinix, IBM, Tencent. */
const METADATA_NAMES: ReadonlySet<string> = new Set([
  'instance-data',
  'instance-data.ec2.internal',
  'metadata',
  'metadata.google.internal',
  'metadata.goog',
  'metadata.packet.net',
  'metadata.platformequinix.com',
  'api.metadata.cloud.ibm.com',
  'metadata.tencentyun.com',
]);

/** Ports of protocols that could be tricked by an HTTP request: https://fetch.spec.whatwg.org/#port-blocking */
const REFUSED_PORTS: ReadonlySet<number> = new Set([
  0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
  111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
  540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
  6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
]);

function refuse(reason: string): UrlVerdict {
  return { ok: false, reason };
}
