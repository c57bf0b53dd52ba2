import { formatId } from '../kernel/ids.ts';
import { type ShapedBody, shapeBody } from '../shaping/envelopes.ts';
import { ProgramError } from '../shaping/program.ts';
import {
  HEADERS_MAX,
  type HeaderList,
  headerProblem,
  maskHeaders,
  pairs,
  SET_BY_POSTHORN,
} from '../webhooks/headers.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import type { OutgoingRequest } from './sender.ts';
import type { DeliveryTask } from './task.ts';

/** A delivery's next request, with what the attempt record says of it. */
export interface PreparedRequest extends OutgoingRequest {
  /** JSON object of the headers, secrets masked. */
  recordedHeaders: string;
}

/** What a template made for a request. */
export interface ShapedRequest {
  /** null: the webhook's envelope makes the body. */
  body: ShapedBody | null;
  /** Name and value in turn; they take the place of the webhook's own of the same name. */
  headers: readonly string[];
}

/**
 * Builds the signed request of an attempt to the webhook's URL or its failover URL. `nowMs` is the time it is signed with.
 *
 * @throws ProgramError for headers that a template must not set.
 */
export function prepareRequest(
  task: DeliveryTask,
  target: WebhookTarget,
  url: URL,
  number: number,
  nowMs: number,
  shaped?: ShapedRequest,
): PreparedRequest {
  const { body, contentType } = shaped?.body ?? shapeBody(target.envelope, task.event, number);
  // A GET carries no body (RFC 9110, section 9.3.1); what is signed is then the empty body.
  const sentBody = target.method === 'GET' ? EMPTY : body;
  const own = [
    target.eventHeader,
    task.event.type,
    'X-Webhook-Delivery',
    formatId('delivery', task.id),
    'X-Webhook-Attempt',
    String(number),
    ...target.signer.sign(task.event.id, Math.floor(nowMs / 1000), sentBody),
  ];
  const fixed = shaped === undefined ? fixedHeaders(target) : shapedHeaders(target, own, shaped.headers);
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

/** The webhook's fixed headers with those that a template made. `own`: the headers that Posthorn sets itself. */
function shapedHeaders(target: WebhookTarget, own: readonly string[], given: readonly string[]): FixedHeaders {
  const made = readHeaders(given, new Set(pairs(own).map(([name]) => name.toLowerCase())));
  const others = (headers: HeaderList) =>
    pairs(headers)
      .filter(([name]) => !made.has(name.toLowerCase()))
      .flat();
  const userAgent = made.has('user-agent') ? [] : ['user-agent', target.userAgent];
  const list = [...made.values()].flat();
  return {
    sent: [...userAgent, ...others(target.customHeaders), ...list],
    recorded: jsonMembers([...userAgent, ...others(target.maskedHeaders), ...maskHeaders(list)]),
  };
}

/** By their names in lower case; the last of a name counts, and one whose value is empty is left out. */
function readHeaders(given: readonly string[], taken: ReadonlySet<string>): Map<string, [string, string]> {
  const made = new Map<string, [string, string]>();
  for (const [name, text] of pairs(given)) {
    const value = text.trim();
    const path = `headers.${name.slice(0, 100)}`;
    const problem = taken.has(name.toLowerCase()) ? SET_BY_POSTHORN : headerProblem(name, value);
    if (problem !== undefined) {
      throw new ProgramError({ kind: 'output', message: `A header cannot be sent: it ${problem}.`, path });
    }
    if (value === '') made.delete(name.toLowerCase());
    else made.set(name.toLowerCase(), [name, value]);
  }
  if (made.size > HEADERS_MAX) {
    throw new ProgramError({ kind: 'limit', message: `There are more than ${HEADERS_MAX} headers.` });
  }
  return made;
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
