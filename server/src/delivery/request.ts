import { formatId } from '../kernel/ids.ts';
import { shapeBody } from '../shaping/envelopes.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import type { OutgoingRequest } from './sender.ts';
import type { DeliveryTask } from './task.ts';

/** A delivery's next request, with what the attempt record says of it. */
export interface PreparedRequest extends OutgoingRequest {
  /** JSON object of the headers, secrets masked. */
  recordedHeaders: string;
}

/** Builds the signed request of an attempt to the webhook's URL or its failover URL. `nowMs` is the time it is signed with. */
export function prepareRequest(
  task: DeliveryTask,
  target: WebhookTarget,
  url: URL,
  number: number,
  nowMs: number,
): PreparedRequest {
  const { body, contentType } = shapeBody(target.envelope, task.event, number);
  // A GET carries no body (RFC 9110, section 9.3.1); what is signed is then the empty body.
  const sentBody = target.method === 'GET' ? EMPTY : body;
  const fixed = fixedHeaders(target);
  const own = [
    target.eventHeader,
    task.event.type,
    'X-Webhook-Delivery',
    formatId('delivery', task.id),
    'X-Webhook-Attempt',
    String(number),
    ...target.signer.sign(task.event.id, Math.floor(nowMs / 1000), sentBody),
  ];
  if (sentBody.length > 0) own.push('content-type', contentType);
  return {
    url,
    method: target.method,
    headers: [...own, ...fixed.sent],
    body: sentBody.length > 0 ? sentBody : null,
    timeoutMs: target.timeoutMs,
    verifyTls: target.verifyTls,
    ipWhitelist: target.ipWhitelist,
    recordedHeaders: `{${jsonMembers(own)},${fixed.recorded}}`,
  };
}

/** The headers that are the same for all requests to a webhook, and as members of the JSON object that is recorded. */
interface FixedHeaders {
  sent: readonly string[];
  recorded: string;
}

const fixedOf = new WeakMap<WebhookTarget, FixedHeaders>();

function fixedHeaders(target: WebhookTarget): FixedHeaders {
  let fixed = fixedOf.get(target);
  if (fixed === undefined) {
    const userAgent = ['user-agent', target.userAgent];
    fixed = {
      sent: [...userAgent, ...target.customHeaders],
      recorded: jsonMembers([...userAgent, ...target.maskedHeaders]),
    };
    fixedOf.set(target, fixed);
  }
  return fixed;
}

/** Names in lower case. None comes twice: a target names no header of its own that it sets elsewhere. */
function jsonMembers(headers: readonly string[]): string {
  let members = '';
  for (let at = 0; at < headers.length; at += 2) {
    const name = JSON.stringify(headers[at]?.toLowerCase());
    members += `${at === 0 ? '' : ','}${name}:${JSON.stringify(headers[at + 1])}`;
  }
  return members;
}

const EMPTY = Buffer.alloc(0);

/** Names in lower case; a name that comes twice has its values joined, as RFC 9110 (section 5.3) joins them. */
export function headersAsJson(headers: readonly string[]): string {
  // Without a prototype: a receiver may well send a header called "constructor" or "__proto__".
  const merged: Record<string, string> = Object.create(null);
  for (let at = 0; at < headers.length; at += 2) {
    const name = (headers[at] ?? '').toLowerCase();
    const value = headers[at + 1] ?? '';
    const known = merged[name];
    merged[name] = known === undefined ? value : `${known}, ${value}`;
  }
  return JSON.stringify(merged);
}
