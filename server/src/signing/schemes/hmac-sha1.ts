import { bodyHmac } from './body-hmac.ts';

/** `sha1=<hex>`: the SHA-1 of call-center.md, for receivers that know nothing else. */
export const hmacSha1 = bodyHmac('hmac_sha1', 'sha1', 'sha1=');
