import { randomBytes } from 'node:crypto';

const REQUEST_PREFIX = `req_${randomBytes(8).toString('hex')}`;
let requests = 0;

/** Unique among all processes by its random half, and within this one by its count. */
export function newRequestId(): string {
  requests += 1;
  return REQUEST_PREFIX + requests.toString(16).padStart(16, '0');
}
