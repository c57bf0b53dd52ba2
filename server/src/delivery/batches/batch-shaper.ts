import { shapeForm, spellBody } from '../../shaping/body-form.ts';
import type { ShapedBody } from '../../shaping/envelopes.ts';
import type { ProgramFault, Shaped } from '../../shaping/program.ts';
import type { Sandbox } from '../../shaping/sandbox/sandbox.ts';
import type { Shaping, ShapingProgram } from '../../shaping/shaping.ts';
import { isJson } from '../../shaping/transformation.ts';
import type { WebhookTarget } from '../../webhooks/target.ts';
import { type EventShape, shapeEvent } from '../shape-event.ts';
import type { DeliveryTask } from '../task.ts';
import { type Batch, BRACKETS, batchForm, COMMA } from './batch.ts';

/** What became of deliveries whose events were shaped for one request. */
export interface ShapedTogether {
  /** What goes; undefined: nothing does. */
  batch: Batch | undefined;
  failed: readonly FailedShape[];
  /** The transform wants nothing to be sent of these. */
  cancelled: readonly DeliveryTask[];
  /** Those that do not go: they no longer fit, or may not go any more. In their order. */
  left: readonly DeliveryTask[];
}

export interface FailedShape {
  task: DeliveryTask;
  fault: ProgramFault;
  template: ShapingProgram['template'];
}

/** Has templates and transforms shape the events of batches, each by itself. */
export class BatchShaper {
  readonly #sandbox: Pick<Sandbox, 'run'>;

  constructor(sandbox: Pick<Sandbox, 'run'>) {
    this.#sandbox = sandbox;
  }

  /**
   * Asks for all events at once, and calls `done` when each has its answer, possibly before it returns. `bytesMax`: of
   * the batch; the first that can go is in it however large it is. `mayGo`: asked of each when all have their answers.
   */
  shape(
    tasks: readonly DeliveryTask[],
    target: WebhookTarget,
    shaping: Shaping,
    bytesMax: number,
    mayGo: (task: DeliveryTask) => boolean,
    done: (shaped: ShapedTogether) => void,
  ): void {
    const together = new Together(tasks, bytesMax);
    let missing = tasks.length;
    for (const [place, task] of tasks.entries()) {
      shapeEvent(this.#sandbox, task, shaping, (shape) => {
        together.add(place, elementOf(task, target, shape));
        missing -= 1;
        if (missing === 0) done(together.end(mayGo));
      });
    }
  }
}

/** What became of one event. */
type Element =
  | { kind: 'part'; part: ShapedBody; template: ShapingProgram['template'] }
  | { kind: 'failed'; fault: ProgramFault; template: ShapingProgram['template'] }
  | { kind: 'cancelled' };

/** The elements of a batch as they come, in whatever order that is. */
class Together {
  readonly #tasks: readonly DeliveryTask[];
  readonly #bytesMax: number;
  readonly #elements: (Element | undefined)[];
  /** Of the parts that are kept, each with a comma. */
  #bytes = BRACKETS - COMMA;
  #parts = 0;
  /** What stands from here on no longer fits. */
  #end: number;

  constructor(tasks: readonly DeliveryTask[], bytesMax: number) {
    this.#tasks = tasks;
    this.#bytesMax = bytesMax;
    this.#elements = tasks.map(() => undefined);
    this.#end = tasks.length;
  }

  /** Keeps no more parts than fit: they are larger than their events may have been, and there are many batches. */
  add(place: number, element: Element): void {
    if (element.kind === 'part') {
      if (place >= this.#end) return;
      this.#bytes += COMMA + element.part.body.length;
      this.#parts += 1;
    }
    this.#elements[place] = element;
    while (this.#parts > 1 && this.#bytes > this.#bytesMax) this.#dropLast();
  }

  /** If all before it go, it does not fit; and what stands behind it must not go before it. */
  #dropLast(): void {
    const last = this.#elements.findLastIndex((element) => element?.kind === 'part');
    const dropped = this.#elements[last];
    if (dropped?.kind !== 'part') return;
    this.#bytes -= COMMA + dropped.part.body.length;
    this.#parts -= 1;
    this.#elements[last] = undefined;
    this.#end = last;
  }

  end(mayGo: (task: DeliveryTask) => boolean): ShapedTogether {
    const tasks: DeliveryTask[] = [];
    const parts: ShapedBody[] = [];
    const templates: ShapingProgram['template'][] = [];
    const failed: FailedShape[] = [];
    const cancelled: DeliveryTask[] = [];
    const left: DeliveryTask[] = [];
    let bytes = BRACKETS - COMMA;
    for (const [place, task] of this.#tasks.entries()) {
      const element = mayGo(task) ? this.#elements[place] : undefined;
      switch (element?.kind) {
        case 'part':
          tasks.push(task);
          parts.push(element.part);
          bytes += COMMA + element.part.body.length;
          templates.push(element.template);
          break;
        case 'failed':
          failed.push({ task, fault: element.fault, template: element.template });
          break;
        case 'cancelled':
          cancelled.push(task);
          break;
        case undefined:
          left.push(task);
      }
    }
    const batch = parts.length === 0 ? undefined : { tasks, parts, templates, bytes };
    return { batch, failed, cancelled, left };
  }
}

function elementOf(task: DeliveryTask, target: WebhookTarget, { result, contentType, template }: EventShape): Element {
  if (!result.ok) return { kind: 'failed', fault: result.fault, template };
  const { shaped } = result;
  if (shaped.cancel === true) return { kind: 'cancelled' };
  const fault = faultInBatch(shaped, contentType);
  if (fault !== undefined) return { kind: 'failed', fault, template };
  try {
    return { kind: 'part', part: partOf(task, target, shaped.body, contentType), template };
  } catch {
    return { kind: 'failed', fault: { kind: 'unavailable', message: 'The request could not be built.' }, template };
  }
}

/** What a request of its own could follow, and one with others cannot. */
function faultInBatch({ body, headers, url }: Shaped, contentType: string): ProgramFault | undefined {
  const fault = (path: string, message: string) => ({ kind: 'output', path, message }) as const;
  if (headers.length > 0) return fault('headers', 'A batch goes with headers of the webhook only, not of one event.');
  if (url !== undefined) return fault('url', 'A batch goes to the URL of the webhook, not to one of an event.');
  if (body !== null && !isJson(contentType)) return fault('content_type', 'Each event of a batch has to be JSON.');
  return undefined;
}

function partOf(task: DeliveryTask, target: WebhookTarget, body: string | null, contentType: string): ShapedBody {
  if (body === null) return shapeForm(batchForm(target), task.event, task.attemptCount + 1);
  return spellBody(target, { body: Buffer.from(body), contentType });
}
