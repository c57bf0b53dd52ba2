import type { Clock } from '../../src/kernel/clock.ts';
import type { Program, ProgramInput, RunResult } from '../../src/shaping/program.ts';
import type { Sandbox } from '../../src/shaping/sandbox/sandbox.ts';

/** What templates make of an event; it stands in its data. `slow`: as `ok`, after a while. */
export const SHAPES = ['ok', 'large', 'fail', 'cancel', 'slow'] as const;
export type ShapeOf = (typeof SHAPES)[number];

/** How long a slow one takes. */
export const SHAPING_MS_MAX = 700;

export interface ScriptedSandboxOptions {
  clock: Clock;
  /** Of a process that is gone nobody hears again. */
  works: () => boolean;
  /** Templates fail for the events that say so. */
  fails: () => boolean;
}

/** Stands where the sandbox would be: what it makes of an event, the event says. */
export class ScriptedSandbox implements Pick<Sandbox, 'run'> {
  readonly #options: ScriptedSandboxOptions;
  /** When it was given an event last, by webhook and event. */
  readonly #begunAtMs = new Map<string, number>();

  constructor(options: ScriptedSandboxOptions) {
    this.#options = options;
  }

  /** When the events of a body that is sent now were given to it; `nowMs` where it has made none of them. */
  begunAt(webhook: number, body: Buffer, nowMs: number): number {
    return Math.min(nowMs, ...namesIn(body).map((name) => this.#begunAtMs.get(keyOf(webhook, name)) ?? nowMs));
  }

  run(_tenantId: string, { body }: Program, { data }: ProgramInput, done: (result: RunResult) => void): void {
    const { clock, works, fails } = this.#options;
    const { shape: wanted, name } = JSON.parse(data) as Shapeable;
    const shape = wanted === 'fail' && !fails() ? 'ok' : wanted;
    this.#begunAtMs.set(keyOf(webhookOf(body), name), clock.now());
    if (shape === 'slow') clock.after(SHAPING_MS_MAX, () => done(resultOf(shape, data)));
    else {
      queueMicrotask(() => {
        if (works()) done(resultOf(shape, data));
      });
    }
  }
}

/** What the data of an event has for it. */
interface Shapeable {
  shape: ShapeOf;
  /** Which event it is. */
  name: string;
}

function keyOf(webhook: number, name: string): string {
  return `${webhook}:${name}`;
}

/** The template of each webhook says whose it is. */
function webhookOf(body: Program['body']): number {
  const template = body?.template as { webhook: number } | undefined;
  return template?.webhook ?? -1;
}

/** The events of a body that a script made; none where an envelope did. */
function namesIn(body: Buffer): string[] {
  const elements: (Partial<Shapeable> & { large?: Shapeable })[] = [JSON.parse(body.toString())].flat();
  return elements.flatMap(({ name, large }) => large?.name ?? name ?? []);
}

function resultOf(shape: ShapeOf, data: string): RunResult {
  switch (shape) {
    case 'fail':
      return { ok: false, fault: { kind: 'failed', message: 'It failed.' } };
    case 'cancel':
      return { ok: true, shaped: { body: null, headers: [], cancel: true } };
    default: {
      const body = shape === 'large' ? JSON.stringify({ large: JSON.parse(data), more: 'x'.repeat(700) }) : data;
      return { ok: true, shaped: { body, headers: [] } };
    }
  }
}
