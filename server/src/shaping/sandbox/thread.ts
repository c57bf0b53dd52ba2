import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { type Program, ProgramError, type ProgramFault, type RunResult, SHAPED_BYTES_MAX } from '../program.ts';
import { InputValues } from './input-values.ts';
import { JavaScriptEngine } from './javascript-engine.ts';
import { JinjaEngine, type PreparedJinja } from './jinja-engine.ts';
import type { Done, Job, Report, ThreadData, Work } from './messages.ts';

/**
 * A thread of the sandbox: runs programs, one after the other. Nothing that a program does may throw out of a run, but
 * what breaks an engine, which is told, and then the thread is replaced.
 */

const { minijinja, running, givesWay } = workerData as ThreadData;

// On Linux a thread has a priority of its own, and 0 names the caller; elsewhere it would be the whole process's.
if (givesWay && process.platform === 'linux') setPriority(0, 5);

/** A thread whose engine has grown to this is replaced, since its memory never shrinks. */
const MEMORY_BYTES_KEPT = 32 * 1024 * 1024;

/** A run that makes it grow by so much is one that threads are replaced for. */
const GROWTH_BYTES_MAX = 16 * 1024 * 1024;

/** Of each text of a fault. */
const TEXT_CHARACTERS_MAX = 1_000;

/** What is done is told at the latest after this, also when more of the same message is still to do. */
const TELL_EVERY_MS = 5;

interface Prepared {
  program: Program;
  /** Made at its first run, so that its cost counts as that run's. */
  jinja: PreparedJinja | undefined;
}

const jinja = new JinjaEngine(minijinja);
let javaScript: JavaScriptEngine | undefined;
const programs = new Map<string, Prepared>();
let spent = false;

function tell(report: Report): void {
  parentPort?.postMessage(report);
}

let last: Promise<void> = Promise.resolve();
parentPort?.on('message', (work: Work) => {
  last = last.then(() => takeWork(work));
});

async function takeWork({ programs: told, forget, jobs }: Work): Promise<void> {
  for (const key of forget) {
    programs.get(key)?.jinja?.free();
    programs.delete(key);
  }
  for (const program of told) programs.set(program.key, { program, jinja: undefined });
  const needed = [...told, ...jobs.flatMap((job) => (job.kind === 'check' ? [job.program] : []))];
  if (needed.some(({ body }) => body?.language === 'javascript')) javaScript ??= await JavaScriptEngine.create();
  let done: Done[] = [];
  let toldMs = performance.now();
  for (const job of jobs) {
    if (spent) break;
    done.push(take(job));
    if (performance.now() - toldMs > TELL_EVERY_MS) {
      tell({ done, spent });
      done = [];
      toldMs = performance.now();
    }
  }
  if (done.length > 0) tell({ done, spent });
}

function take(job: Job): Done {
  const startedMs = performance.now();
  const bytesBefore = jinja.memoryBytes;
  Atomics.store(running, 0, job.number);
  const done =
    job.kind === 'run'
      ? ({ number: job.number, kind: 'run', result: run(job.key, job) } as const)
      : ({ number: job.number, kind: 'check', fault: checked(job.program) } as const);
  Atomics.store(running, 0, 0);
  const { memoryBytes } = jinja;
  if (memoryBytes > MEMORY_BYTES_KEPT) spent = true;
  return { ...done, tookMs: performance.now() - startedMs, isWide: memoryBytes - bytesBefore > GROWTH_BYTES_MAX };
}

function run(key: string, { input }: Extract<Job, { kind: 'run' }>): RunResult {
  try {
    const prepared = programs.get(key);
    if (prepared === undefined) throw new Error('a program was not told');
    const { body } = prepared.program;
    const shaped = { body: null, headers: [] as string[], ...runJinja(prepared, input) };
    if (body?.language === 'javascript') {
      const made = (javaScript as JavaScriptEngine).run(body.template, body.json, input);
      Object.assign(shaped, made, { headers: [...shaped.headers, ...made.headers] });
    }
    if (shaped.body !== null && Buffer.byteLength(shaped.body) > SHAPED_BYTES_MAX) {
      const message = `The body has more than ${SHAPED_BYTES_MAX} bytes.`;
      throw new ProgramError({ kind: 'limit', message, path: 'template' });
    }
    return { ok: true, shaped };
  } catch (error) {
    return { ok: false, fault: shortened(faultOf(error)) };
  }
}

function runJinja(prepared: Prepared, input: Extract<Job, { kind: 'run' }>['input']) {
  const { body, headers } = prepared.program;
  if (body?.language !== 'jinja' && headers.length === 0) return undefined;
  prepared.jinja ??= jinja.prepare(prepared.program);
  return prepared.jinja.run(new InputValues(input));
}

function checked(program: Program): ProgramFault | undefined {
  const fault = check(program);
  return fault && shortened(fault);
}

function check(program: Program): ProgramFault | undefined {
  try {
    const { body } = program;
    const ofJinja = jinja.check(program);
    if (ofJinja !== undefined || body?.language !== 'javascript') return ofJinja;
    const fault = javaScript?.check(body.template);
    return fault && { path: 'template', ...fault };
  } catch (error) {
    return faultOf(error);
  }
}

/** Names and texts that a fault quotes may be as long as a template, and a fault is kept with each attempt. */
function shortened({ message, detail, path, ...place }: ProgramFault): ProgramFault {
  return {
    ...place,
    message: cut(message),
    ...(detail !== undefined && { detail: cut(detail) }),
    ...(path !== undefined && { path: cut(path) }),
  };
}

function cut(text: string): string {
  return text.length <= TEXT_CHARACTERS_MAX ? text : `${text.slice(0, TEXT_CHARACTERS_MAX - 1).toWellFormed()}…`;
}

/** An engine that stops at a fault of its own is what it looks like when memory ran out, and cannot be used again. */
function faultOf(error: unknown): ProgramFault {
  if (error instanceof ProgramError) return error.fault;
  spent = true;
  return { kind: 'limit', message: 'It takes too much memory, or more depth than there is.' };
}
