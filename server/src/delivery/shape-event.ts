import type { ProgramInput, RunResult } from '../shaping/program.ts';
import type { Sandbox } from '../shaping/sandbox/sandbox.ts';
import { namedTemplate, type Shaping, type ShapingProgram, shapingOf } from '../shaping/shaping.ts';
import type { DeliveryTask } from './task.ts';

/** What a webhook's template or transform made of an event. */
export interface EventShape {
  result: RunResult;
  /** Of the body that it makes. */
  contentType: string;
  template: ShapingProgram['template'];
}

/** Has the sandbox shape a delivery's event; where there is no template for it, that is the fault, at once. */
export function shapeEvent(
  sandbox: Pick<Sandbox, 'run'>,
  task: DeliveryTask,
  shaping: Shaping,
  done: (shape: EventShape) => void,
): void {
  const { tenantId, event, attemptCount } = task;
  const found = shapingOf(shaping, event.type);
  if (found === undefined) {
    const name = namedTemplate(shaping) ?? '';
    const message = `There is no template "${name}" for events of the type ${event.type}.`;
    done({ result: { ok: false, fault: { kind: 'failed', message } }, contentType: '', template: null });
    return;
  }
  const { program, contentType, template } = found;
  const input: ProgramInput = {
    eventType: event.type,
    eventId: event.publicId,
    timestamp: event.timestamp,
    data: event.data.toString('utf8'),
    metadata: event.metadata?.toString('utf8') ?? null,
    attempt: attemptCount + 1,
  };
  sandbox.run(tenantId, program, input, (result) => done({ result, contentType, template }));
}
