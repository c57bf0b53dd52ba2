import { bodyHmac } from './body-hmac.ts';

/** `<hex>`: isp-communications.md, support-autoresponder.md and whatsapp-crm.md. */
export const hmacSha256Hex = bodyHmac('hmac_sha256_hex', 'sha256', '');
