import type { EventTypeDirectory } from '../catalog/directory.ts';
import type { Scope } from '../http/caller.ts';
import { invalidField } from '../kernel/errors.ts';
import { ProgramError, type ProgramFault, type ProgramInput, type RunResult, type Shaped } from '../shaping/program.ts';
import type { Sandbox } from '../shaping/sandbox/sandbox.ts';
import { programOf } from '../shaping/transformation.ts';
import type { EgressGuard } from '../webhooks/egress/guard.ts';
import { readShapedHeaders } from '../webhooks/shaped-headers.ts';
import type { TemplateRow } from './rows.ts';
import type { Sample } from './sample.ts';
import type { TestShown } from './schema.ts';

/** What a template is tried with. Without `sample`, the sample of the event type. */
export interface TestInput {
  sample: Sample | undefined;
  /** Goes before the sample's, as `metadata` does. */
  eventType: string | undefined;
  /** JSON text of an object. */
  metadata: string | undefined;
}

export interface TestDeps {
  eventTypes: EventTypeDirectory;
  sandbox: Pick<Sandbox, 'run'>;
  guard: Pick<EgressGuard, 'judgeUrl'>;
}

/** Runs a template as a delivery would. @throws AppError 422 where there is nothing to try it with. */
export async function testTemplate(
  deps: TestDeps,
  scope: Scope,
  row: TemplateRow,
  { sample, eventType, metadata }: TestInput,
  nowMs: number,
): Promise<TestShown> {
  const type = eventType ?? sample?.eventType ?? row.event_type ?? 'template.test';
  const data = sample?.data ?? (await sampleOf(deps.eventTypes, scope, eventType, row.event_type));
  const input: ProgramInput = {
    eventType: type,
    eventId: sample?.eventId ?? 'evt_test',
    timestamp: sample?.timestamp ?? new Date(nowMs).toISOString(),
    data,
    metadata: metadata ?? sample?.metadata ?? null,
    attempt: 1,
  };
  const program = programOf(row.content, []);
  const result = await new Promise<RunResult>((resolve) => deps.sandbox.run(scope.tenantId, program, input, resolve));
  const common = { event_type: type, content_type: row.content.content_type };
  const fault = result.ok ? unsendable(result.shaped, deps.guard) : result.fault;
  return result.ok && fault === undefined
    ? { success: true, ...common, ...showShaped(result.shaped), error: null }
    : { success: false, ...common, ...NOTHING, error: fault ?? null };
}

async function sampleOf(
  eventTypes: EventTypeDirectory,
  scope: Scope,
  given: string | undefined,
  ofTemplate: string | null,
): Promise<string> {
  const type = given ?? ofTemplate;
  if (type === null) throw invalidField('sample', 'must be given, or an event_type that has one');
  const entry = await eventTypes.lookup(scope, type);
  if (entry === 'unknown' && given !== undefined) throw await eventTypes.unknownEventType(scope, type, 'event_type');
  const sample = entry === 'unknown' ? undefined : entry.sample;
  if (sample == null) throw invalidField('sample', `must be given: the event type ${type} has none`);
  return sample.toString();
}

const NOTHING = { body: null, headers: {}, url: null, cancelled: false };

/** What would keep it from being sent to any webhook. */
function unsendable({ headers, url }: Shaped, guard: TestDeps['guard']): ProgramFault | undefined {
  try {
    readShapedHeaders(headers, NO_NAMES);
  } catch (error) {
    if (error instanceof ProgramError) return error.fault;
    throw error;
  }
  const verdict = url === undefined ? undefined : guard.judgeUrl(url);
  if (verdict === undefined || verdict.ok) return undefined;
  return { kind: 'output', message: `The URL that the transform gives is refused: ${verdict.reason}`, path: 'url' };
}

const NO_NAMES: ReadonlySet<string> = new Set();

function showShaped({ body, headers, url, cancel }: Shaped) {
  const shown: Record<string, string> = Object.create(null);
  for (const [name, value] of readShapedHeaders(headers, NO_NAMES).values()) shown[name] = value;
  return { body, headers: shown, url: url ?? null, cancelled: cancel === true };
}
