import { createHash } from 'node:crypto';
import { formatId } from '../kernel/ids.ts';
import { MASK } from '../masking/rules.ts';
import { shapeForm, spellBody } from '../shaping/body-form.ts';
import type { ShapedBody } from '../shaping/envelopes.ts';
import { authHeaderNameOf } from '../webhooks/auth/credentials.ts';
import { type HeaderList, maskHeaders, pairs } from '../webhooks/headers.ts';
import { readShapedHeaders } from '../webhooks/shaped-headers.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import { type Batch, batchBody } from './batches/batch.ts';
import type { OutgoingRequest } from './sender.ts';
import type { DeliveryTask } from './task.ts';

/** A request, with what the attempt records of its deliveries say of it. */
export interface PreparedRequest extends OutgoingRequest {
  /** For each delivery a JSON object of the headers, secrets masked. */
  recordedHeaders: string[];
  /** Its body is to be compressed; what is signed is the body before that. */
  compresses: boolean;
}

/** What a request is signed and authorized with. */
export interface Signing {
  nowMs: number;
  /** The access token, for webhooks that need one. */
  token: string | undefined;
}

/** What a template made for a request. */
export interface ShapedRequest {
  /** null: the webhook's envelope makes the body. */
  body: ShapedBody | null;
  /** Name and value in turn; they take the place of the webhook's own of the same name. */
  headers: readonly string[];
}

/**
 * Builds the signed request of an attempt to the webhook's URL or its failover URL.
 *
 * @throws ProgramError for headers that a template must not set.
 */
export function prepareRequest(
  task: DeliveryTask,
  target: WebhookTarget,
  url: URL,
  number: number,
  signing: Signing,
  shaped?: ShapedRequest,
): PreparedRequest {
  const made = shaped?.body ?? undefined;
  const form = made === undefined ? shapeForm(target, task.event, number) : spellBody(target, made);
  const { body, contentType, headers: ofEvent } = form;
  // A GET carries no body (RFC 9110, section 9.3.1); what is signed is then the empty body.
  const sentBody = target.method === 'GET' ? EMPTY : body;
  const deliveryId = formatId('delivery', task.id);
  const own = [target.eventHeader, task.event.type, 'X-Webhook-Delivery', deliveryId];
  own.push('X-Webhook-Attempt', String(number));
  const recordedType = ofEvent === undefined ? contentType : undefined;
  const common = commonHeaders(target, task.event.id, sentBody, recordedType, signing.nowMs);
  const fixed =
    shaped === undefined
      ? fixedHeaders(target)
      : shapedHeaders(target, [...own, ...common], withoutThese(shaped.headers, ofEvent));
  const recordedHeaders = [recorded(fixed, own, common)];
  own.push(...common);
  if (ofEvent !== undefined) {
    // They say what the publisher said. They are not recorded, so there is nothing to mask and to erase.
    own.push(...ofEvent);
    if (sentBody.length > 0) own.push('content-type', contentType);
  }
  return finish(target, url, own, fixed, sentBody, recordedHeaders, `${deliveryId}.${number}`, signing);
}

/**
 * Builds the signed request of a batch. Its `webhook-id` is the event's where it has one event only; else it is made of
 * the ids of its events, so that the same events in the same order have the same one again.
 */
export function prepareBatch(batch: Batch, target: WebhookTarget, url: URL, signing: Signing): PreparedRequest {
  const { body, contentType } = batchBody(batch);
  const numbers = batch.tasks.map(({ attemptCount }) => attemptCount + 1);
  const types = new Set(batch.tasks.map(({ event }) => event.type));
  const [first] = batch.tasks;
  const deliveryIds = batch.tasks.map(({ id }) => formatId('delivery', id)).join(',');
  const eventIds = batch.tasks.map(({ event }) => event.id).join(',');
  const id = batch.tasks.length === 1 ? eventIds : `batch_${digest(eventIds)}`;
  const own = [target.eventHeader, types.size === 1 ? (first?.event.type ?? '') : BATCH_TYPE];
  own.push('X-Webhook-Delivery', deliveryIds, 'X-Webhook-Attempt', String(Math.max(...numbers)));
  own.push('X-Webhook-Event-Ids', eventIds);
  const common = ['X-Webhook-Batch-Size', String(batch.tasks.length)];
  common.push(...commonHeaders(target, id, body, contentType, signing.nowMs));
  const fixed = fixedHeaders(target);
  // Of the lists each attempt has its own part: all of them in all attempts would be up to 600 KB a batch.
  const recordedHeaders = batch.tasks.map((task, at) => {
    const part = [target.eventHeader, task.event.type, 'X-Webhook-Delivery', formatId('delivery', task.id)];
    return recorded(fixed, [...part, 'X-Webhook-Attempt', String(numbers[at])], common);
  });
  own.push(...common);
  return finish(target, url, own, fixed, body, recordedHeaders, `${id}.${signing.nowMs}`, signing);
}

/** What the header with the event type says of a batch that has several. */
const BATCH_TYPE = 'batch';

/** Enough of SHA-256 that two batches of a webhook never share an id. */
function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

/**
 * Headers that are sent as they are recorded, the same for all deliveries of the request. `contentType`: undefined where it
 * is the event's own.
 */
function commonHeaders(
  target: WebhookTarget,
  id: string,
  body: Buffer,
  contentType: string | undefined,
  nowMs: number,
): string[] {
  const headers = target.signer.sign(id, Math.floor(nowMs / 1000), body);
  if (body.length === 0) return headers;
  if (contentType !== undefined) headers.push('content-type', contentType);
  if (target.compression === 'gzip') headers.push('content-encoding', 'gzip');
  return headers;
}

function recorded(fixed: FixedHeaders, own: readonly string[], common: readonly string[]): string {
  const members = common.length === 0 ? jsonMembers(own) : `${jsonMembers(own)},${jsonMembers(common)}`;
  return `{${members},${fixed.recorded}}`;
}

/** `jti`: the id of a token that is made for this request. */
function finish(
  target: WebhookTarget,
  url: URL,
  headers: string[],
  fixed: FixedHeaders,
  body: Buffer,
  recordedHeaders: string[],
  jti: string,
  { nowMs, token }: Signing,
): PreparedRequest {
  const { credentials } = target;
  if (credentials.kind === 'jwt') headers.push('authorization', `Bearer ${credentials.sign(jti, nowMs)}`);
  if (credentials.kind === 'oauth2') {
    if (token === undefined) throw new Error('A request needs a token and has none.');
    headers.push('authorization', `Bearer ${token}`);
  }
  return {
    url,
    method: target.method,
    headers,
    fixedHeaders: fixed.sent,
    body: body.length > 0 ? body : null,
    timeoutMs: target.timeoutMs,
    verifyTls: target.verifyTls,
    ipWhitelist: target.ipWhitelist,
    clientCertificate: credentials.kind === 'certificate' ? credentials.certificate : null,
    recordedHeaders,
    compresses: body.length > 0 && target.compression === 'gzip',
  };
}

/**
 * The webhook's fixed headers with those that a template made. `own`: the headers that Posthorn sets itself. Neither they
 * nor the webhook's credential can be set by a template.
 */
function shapedHeaders(target: WebhookTarget, own: readonly string[], given: readonly string[]): FixedHeaders {
  const taken = new Set(pairs(own).map(([name]) => name.toLowerCase()));
  const authHeader = authHeaderNameOf(target.credentials);
  if (authHeader !== undefined) taken.add(authHeader.toLowerCase());
  const made = readShapedHeaders(given, taken);
  const others = (headers: HeaderList) =>
    pairs(headers)
      .filter(([name]) => !made.has(name.toLowerCase()))
      .flat();
  const userAgent = made.has('user-agent') ? [] : ['user-agent', target.userAgent];
  const list = [...made.values()].flat();
  const { sent, recorded } = credentialHeaders(target);
  return {
    sent: [...userAgent, ...others(target.customHeaders), ...list, ...sent],
    recorded: jsonMembers([...userAgent, ...others(target.maskedHeaders), ...maskHeaders(list), ...recorded]),
  };
}

/** Of what a template made, the headers that the event does not have itself: publishers may give it any attribute. */
function withoutThese(given: readonly string[], ofEvent: readonly string[] | undefined): readonly string[] {
  if (ofEvent === undefined) return given;
  const names = new Set(pairs(ofEvent).map(([name]) => name));
  return pairs(given)
    .filter(([name]) => !names.has(name.toLowerCase()))
    .flat();
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
    const { sent, recorded } = credentialHeaders(target);
    fixed = {
      sent: [...userAgent, ...target.customHeaders, ...sent],
      recorded: jsonMembers([...userAgent, ...target.maskedHeaders, ...recorded]),
    };
    fixedOf.set(target, fixed);
  }
  return fixed;
}

/** The webhook's credential where it is the same for all requests, and as attempts record it, masked. */
function credentialHeaders({ credentials }: WebhookTarget): { sent: readonly string[]; recorded: readonly string[] } {
  const name = authHeaderNameOf(credentials);
  return {
    sent: credentials.kind === 'header' ? [credentials.name, credentials.value] : [],
    recorded: name === undefined ? [] : [name, MASK],
  };
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
