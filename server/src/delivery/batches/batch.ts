import { type BodyForm, shapeForm } from '../../shaping/body-form.ts';
import type { ShapedBody } from '../../shaping/envelopes.ts';
import type { ShapingProgram } from '../../shaping/shaping.ts';
import type { WebhookTarget } from '../../webhooks/target.ts';
import type { DeliveryTask } from '../task.ts';

/** Deliveries of a webhook that go in one request, each with its part of the body. */
export interface Batch {
  readonly tasks: readonly DeliveryTask[];
  /** None where the envelope of the only delivery cannot be shaped. */
  readonly parts: readonly ShapedBody[];
  /** Of each part the stored template that made it, null: the webhook's own. Absent: the envelope made all of them. */
  readonly templates?: readonly ShapingProgram['template'][];
  /** Of the body. */
  readonly bytes: number;
}

/** Deliveries that wait for a turn, the next one first. */
export interface Waiting {
  peek(): DeliveryTask | undefined;
  shift(): DeliveryTask | undefined;
}

/**
 * Takes what goes with a delivery: the next ones, in their order, while they are not too many or too large. The first is
 * in it however large it is.
 *
 * One whose envelope cannot be shaped goes with no others, and fails in its own turn. Deliveries for the failover URL do
 * not go with those for the webhook's own.
 */
export function gatherBatch(
  first: DeliveryTask,
  target: WebhookTarget,
  limits: { events: number; bytes: number },
  waiting: Waiting,
): Batch {
  const tasks = [first];
  const part = shaped(first, target);
  if (part === undefined) return { tasks, parts: [], bytes: 0 };
  const parts = [part];
  let bytes = BRACKETS + part.body.length;
  while (tasks.length < limits.events) {
    const next = waiting.peek();
    if (next === undefined || !mayGoTogether(first, next)) break;
    // Its own length is a part of it: without this a large payload would be shaped for nothing.
    if (bytes + next.event.data.length > limits.bytes && target.envelope !== 'flat') break;
    const another = shaped(next, target);
    if (another === undefined || bytes + COMMA + another.body.length > limits.bytes) break;
    waiting.shift();
    tasks.push(next);
    parts.push(another);
    bytes += COMMA + another.body.length;
  }
  return { tasks, parts, bytes };
}

/**
 * Takes what may go with a delivery whose event a template shapes. How much of it does shows when it was: what it makes
 * of an event may be smaller or larger than that.
 */
export function gatherToShape(first: DeliveryTask, eventsMax: number, waiting: Waiting): DeliveryTask[] {
  const tasks = [first];
  let bytes = first.event.data.length;
  while (tasks.length < eventsMax) {
    const next = waiting.peek();
    if (next === undefined || !mayGoTogether(first, next)) break;
    bytes += next.event.data.length;
    if (bytes > SHAPED_TOGETHER_BYTES_MAX) break;
    waiting.shift();
    tasks.push(next);
  }
  return tasks;
}

/** Data that the sandbox is given for one request: as much as `max_bytes` can be. */
const SHAPED_TOGETHER_BYTES_MAX = 4 * 1024 * 1024;

function mayGoTogether(first: DeliveryTask, next: DeliveryTask): boolean {
  return (next.trigger === 'failover') === (first.trigger === 'failover');
}

export const BRACKETS = 2;
export const COMMA = 1;

/**
 * A JSON array of the parts. CloudEvents has a media type for that (JSON event format, section 4); parts of several media
 * types are JSON.
 * @throws Error for one without parts.
 */
export function batchBody({ parts, bytes }: Batch): ShapedBody {
  if (parts.length === 0) throw new Error('The envelope of a delivery cannot be shaped.');
  const body = Buffer.allocUnsafe(bytes);
  let at = body.write('[', 0, 'latin1');
  for (const [place, part] of parts.entries()) {
    if (place > 0) at += body.write(',', at, 'latin1');
    body.set(part.body, at);
    at += part.body.length;
  }
  body.write(']', at, 'latin1');
  return { body, contentType: contentTypeOf(parts) };
}

function contentTypeOf(parts: readonly ShapedBody[]): string {
  const contentType = parts[0]?.contentType ?? JSON_TYPE;
  if (parts.some((part) => part.contentType !== contentType)) return JSON_TYPE;
  return contentType === 'application/cloudevents+json' ? 'application/cloudevents-batch+json' : contentType;
}

const JSON_TYPE = 'application/json';

/**
 * The form of each event of a batch. CloudEvents in binary mode are structured there: a batch has no other mode (HTTP
 * protocol binding, section 3.3).
 */
export function batchForm({ envelope, bodySpelling }: BodyForm): BodyForm {
  return { envelope: envelope === 'cloudevents_binary' ? 'cloudevents' : envelope, bodySpelling };
}

function shaped(task: DeliveryTask, target: WebhookTarget): ShapedBody | undefined {
  try {
    return shapeForm(batchForm(target), task.event, task.attemptCount + 1);
  } catch {
    return undefined;
  }
}
