import type { EventTypeDirectory } from '../catalog/directory.ts';
import type { Scope } from '../http/caller.ts';
import { invalidField } from '../kernel/errors.ts';
import type { ProgramInput, RunResult } from '../shaping/program.ts';
import type { Sandbox } from '../shaping/sandbox/sandbox.ts';
import { programOf } from '../shaping/transformation.ts';
import type { TemplateRow } from './rows.ts';
import type { TestShown } from './schema.ts';

/** What a template is tried with. Without `sample`, the sample of the event type. */
export interface TestInput {
  /** JSON text of an event's data. */
  sample: string | undefined;
  eventType: string | undefined;
  metadata: string | undefined;
}

/** Runs a template as a delivery would. @throws AppError 422 where there is nothing to try it with. */
export async function testTemplate(
  deps: { eventTypes: EventTypeDirectory; sandbox: Pick<Sandbox, 'run'> },
  scope: Scope,
  row: TemplateRow,
  { sample, eventType, metadata }: TestInput,
  nowMs: number,
): Promise<TestShown> {
  const type = eventType ?? row.event_type ?? 'template.test';
  const data = sample ?? (await sampleOf(deps.eventTypes, scope, type, eventType !== undefined));
  const input: ProgramInput = {
    eventType: type,
    eventId: 'evt_test',
    timestamp: new Date(nowMs).toISOString(),
    data,
    metadata: metadata ?? null,
    attempt: 1,
  };
  const program = programOf(row.content, []);
  const result = await new Promise<RunResult>((resolve) => deps.sandbox.run(scope.tenantId, program, input, resolve));
  return showResult(type, row.content.content_type, result);
}

async function sampleOf(eventTypes: EventTypeDirectory, scope: Scope, type: string, given: boolean): Promise<string> {
  const entry = await eventTypes.lookup(scope, type);
  if (entry === 'unknown' && given) throw await eventTypes.unknownEventType(scope, type, 'event_type');
  const sample = entry === 'unknown' ? undefined : entry.sample;
  if (sample == null) throw invalidField('sample', `must be given: the event type ${type} has none`);
  return sample.toString();
}

function showResult(type: string, contentType: string, result: RunResult): TestShown {
  const nothing = { body: null, headers: {}, url: null, cancelled: false };
  const common = { event_type: type, content_type: contentType };
  if (!result.ok) return { success: false, ...common, ...nothing, error: result.fault };
  const { body, headers, url, cancel } = result.shaped;
  const shown: Record<string, string> = Object.create(null);
  for (let at = 0; at < headers.length; at += 2) shown[headers[at] ?? ''] = headers[at + 1] ?? '';
  return { success: true, ...common, body, headers: shown, url: url ?? null, cancelled: cancel === true, error: null };
}
