import { bodyHmac } from './body-hmac.ts';

/** `sha256=<hex>`: call-center.md, and what GitHub sends. */
export const hmacSha256 = bodyHmac('hmac_sha256', 'sha256', 'sha256=');
