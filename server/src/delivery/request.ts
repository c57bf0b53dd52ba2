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
  const { body, contentType, headers } = shapeBody(target.envelope, task.event, number);
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
  if (headers !== undefined) own.push(...headers);
  if (sentBody.length > 0) own.push('content-type', contentType);
  return {
    url,
    method: target.method,
    headers: own,
    fixedHeaders: fixed.sent,
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
    const value = headers[at + 1] as string;
    const text = PLAIN.test(value) ? `"${value}"` : JSON.stringify(value);
    members += `${at === 0 ? '' : ','}${memberName(headers[at] as string)}${text}`;
  }
  return members;
}

/** A text that JSON leaves as it is. */
const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

const memberNames = new Map<string, string>();
const MEMBER_NAMES_MAX = 1_000;

/** `"name":`, which is made once for a name. */
function memberName(name: string): string {
  let text = memberNames.get(name);
  if (text === undefined) {
    if (memberNames.size >= MEMBER_NAMES_MAX) memberNames.clear();
    text = `${JSON.stringify(name.toLowerCase())}:`;
    memberNames.set(name, text);
  }
  return text;
}

const EMPTY = Buffer.alloc(0);
