import { type BodyForm, shapeForm } from '../../shaping/body-form.ts';
import type { ShapedBody } from '../../shaping/envelopes.ts';
import type { WebhookTarget } from '../../webhooks/target.ts';
import type { DeliveryTask } from '../task.ts';

/** Deliveries of a webhook that go in one request, the envelope of each shaped. */
export interface Batch {
  readonly tasks: readonly DeliveryTask[];
  /** None where the envelope of the only delivery cannot be shaped. */
  readonly parts: readonly ShapedBody[];
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
    if (next === undefined || (next.trigger === 'failover') !== (first.trigger === 'failover')) break;
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

const BRACKETS = 2;
const COMMA = 1;

/**
 * A JSON array of the envelopes. CloudEvents has a media type for that (JSON event format, section 4).
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
  const isCloudEvents = parts[0]?.contentType === 'application/cloudevents+json';
  return { body, contentType: isCloudEvents ? 'application/cloudevents-batch+json' : 'application/json' };
}

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
