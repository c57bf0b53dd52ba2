import type { QuickJSContext, QuickJSHandle, QuickJSRuntime, QuickJSWASMModule } from 'quickjs-emscripten';
import { newQuickJSWASMModuleFromVariant, newVariant, RELEASE_SYNC } from 'quickjs-emscripten';
import { ProgramError, type ProgramFault, type ProgramInput, SHAPED_BYTES_MAX, type Shaped } from '../program.ts';
import { requireJson } from './jinja-engine.ts';

/** For the whole of a run, from the reading of the source on. */
const RUN_MS_MAX = 100;
const MEMORY_BYTES_MAX = 32 * 1024 * 1024;
const STACK_BYTES_MAX = 256 * 1024;

/** WebAssembly pages of 64 KiB, for the engine with the memory that a run may have. */
const PAGES = { initial: 256, maximum: 1_024 };

const FILE = 'transformation';

/**
 * QuickJS, in a memory that has a cap. It runs in the sandbox's thread. Each run has a realm of its own, which costs 0.5
 * ms: what one event's run leaves behind is gone before the next one.
 */
export class JavaScriptEngine {
  readonly #module: QuickJSWASMModule;

  private constructor(module: QuickJSWASMModule) {
    this.#module = module;
  }

  static async create(): Promise<JavaScriptEngine> {
    const wasmMemory = new WebAssembly.Memory(PAGES);
    const engine = new JavaScriptEngine(
      await newQuickJSWASMModuleFromVariant(newVariant(RELEASE_SYNC, { wasmMemory })),
    );
    // The first use compiles much of it, and is not to count as some program's.
    engine.check('(event) => event');
    return engine;
  }

  /** What is wrong with a source, so far as can be said without an event. */
  check(source: string): ProgramFault | undefined {
    try {
      this.#inRealm((realm) => {
        realm.readFunction(source).dispose();
      });
      return undefined;
    } catch (error) {
      if (error instanceof ProgramError) return error.fault;
      throw error;
    }
  }

  /** @throws ProgramError */
  run(source: string, json: boolean, input: ProgramInput): Shaped {
    const made = this.#inRealm((realm) => realm.call(source, eventOf(input)));
    return readMade(made, json, source);
  }

  #inRealm<T>(work: (realm: Realm) => T): T {
    const runtime = this.#module.newRuntime();
    runtime.setMemoryLimit(MEMORY_BYTES_MAX);
    runtime.setMaxStackSize(STACK_BYTES_MAX);
    const context = runtime.newContext();
    try {
      return work(new Realm(runtime, context));
    } finally {
      context.dispose();
      runtime.dispose();
    }
  }
}

class Realm {
  readonly #context: QuickJSContext;
  #interrupted = false;

  constructor(runtime: QuickJSRuntime, context: QuickJSContext) {
    this.#context = context;
    const endsAt = performance.now() + RUN_MS_MAX;
    runtime.setInterruptHandler(() => {
      this.#interrupted = performance.now() > endsAt;
      return this.#interrupted;
    });
  }

  /** Reads the source, whose value must be a function. */
  readFunction(source: string): QuickJSHandle {
    // Strict, like a module; the parentheses make an expression of it, and stand on its line.
    const made = this.#take(this.#context.evalCode(`(${source}\n)`, FILE, { strict: true }), 'syntax');
    if (this.#context.typeof(made) === 'function') return made;
    made.dispose();
    throw new ProgramError({
      kind: 'syntax',
      message: 'It must be a function, such as (event) => ({ body: event.data }).',
    });
  }

  /** Calls the function with the event and gives what it returned, as `DRIVER` tells it. */
  call(source: string, event: string): string {
    const context = this.#context;
    // Before the tenant's source is read, which may change what JSON does.
    const driver = this.#take(context.evalCode(DRIVER, 'driver'), 'failed');
    const given = context.newString(event);
    let transform: QuickJSHandle | undefined;
    try {
      transform = this.readFunction(source);
      const made = this.#take(context.callFunction(driver, context.undefined, transform, given), 'failed');
      const text = context.getString(made);
      made.dispose();
      return text;
    } finally {
      transform?.dispose();
      given.dispose();
      driver.dispose();
    }
  }

  #take(result: { value: QuickJSHandle; error?: undefined } | { error: QuickJSHandle }, kind: 'syntax' | 'failed') {
    if (result.error === undefined) return result.value;
    const { error } = result;
    try {
      throw new ProgramError(this.#faultOf(error, kind));
    } finally {
      error.dispose();
    }
  }

  #faultOf(error: QuickJSHandle, kind: 'syntax' | 'failed'): ProgramFault {
    if (this.#interrupted) return TOO_LONG;
    const name = this.#textOf(error, 'name');
    const message = this.#textOf(error, 'message');
    if (message === 'out of memory') return { kind: 'limit', message: 'The transformation takes too much memory.' };
    if (/stack overflow|Maximum call stack/i.test(message)) {
      return { kind: 'limit', message: 'The transformation goes too deep.' };
    }
    const where = new RegExp(`${FILE}:(\\d+)(?::(\\d+))?`).exec(this.#textOf(error, 'stack'));
    // What was thrown may be an object that computes what it is asked for.
    if (this.#interrupted) return TOO_LONG;
    const line = where?.[1] === undefined ? undefined : Number(where[1]);
    // On the first line stands a parenthesis that its author did not write.
    const column = where?.[2] === undefined ? undefined : Number(where[2]) - (line === 1 ? 1 : 0);
    const place = { ...(line !== undefined && { line }), ...(column !== undefined && { column }) };
    if (name === 'SyntaxError' && kind === 'syntax') {
      return { kind, message: `${message.slice(0, MESSAGE_CHARACTERS_MAX).toWellFormed()}.`, ...place };
    }
    const known = ERROR_NAMES.has(name) ? name : 'an error of its own';
    const detail = `${name}: ${message}`.slice(0, 1_000).toWellFormed();
    return { kind: 'failed', message: `The transformation threw ${known}.`, detail, ...place };
  }

  #textOf(error: QuickJSHandle, name: string): string {
    if (this.#context.typeof(error) !== 'object') return '';
    const value = this.#context.getProp(error, name);
    try {
      return this.#context.typeof(value) === 'string' ? this.#context.getString(value) : '';
    } finally {
      value.dispose();
    }
  }
}

const TOO_LONG: ProgramFault = { kind: 'limit', message: 'The transformation takes too long.' };

/** A source may throw a syntax error of its own making, of any length. */
const MESSAGE_CHARACTERS_MAX = 300;

const ERROR_NAMES = new Set(['Error', 'EvalError', 'RangeError', 'ReferenceError', 'SyntaxError', 'TypeError']);

/**
 * Gives what a function makes of an event, as JSON: how it told the body, and the rest. What it gives itself has no
 * prototype, to which the function may have added a `toJSON`.
 */
const DRIVER = `((parse, stringify, isArray) => (transform, event) => {
  const made = transform(parse(event));
  if (made === null || typeof made !== 'object' || isArray(made) || typeof made.then === 'function') {
    return stringify({ __proto__: null, made: made === null ? 'null' : isArray(made) ? 'an array' : typeof made });
  }
  const { body, headers, url, cancel } = made;
  const text = typeof body === 'string';
  const json = body === undefined || text ? body : stringify(body);
  const noJson = body !== undefined && json === undefined;
  return stringify({ __proto__: null, text, noJson, body: json, headers, url, cancel: !!cancel });
})(JSON.parse, JSON.stringify, Array.isArray)`;

function eventOf({ eventType, eventId, timestamp, data, metadata, attempt }: ProgramInput): string {
  return (
    `{"event_type":${JSON.stringify(eventType)},"event_id":${JSON.stringify(eventId)},` +
    `"timestamp":${JSON.stringify(timestamp)},"data":${data},"metadata":${metadata ?? '{}'},"attempt":${attempt}}`
  );
}

function readMade(text: string, json: boolean, source: string): Shaped {
  if (text.length > 4 * SHAPED_BYTES_MAX) {
    throw new ProgramError({ kind: 'limit', message: `It makes more than ${SHAPED_BYTES_MAX} bytes.` });
  }
  const made = JSON.parse(text) as Record<string, unknown>;
  if (made.made !== undefined) {
    const what = made.made === 'object' ? 'a promise' : made.made;
    throw new ProgramError({
      kind: 'output',
      message: `The transformation must return an object, such as { body: event.data }; it returned ${what}.`,
    });
  }
  if (made.noJson === true) {
    throw new ProgramError({ kind: 'output', message: 'The body has no form in JSON: it is a function or a symbol.' });
  }
  const body = typeof made.body === 'string' ? made.body : null;
  if (body !== null && json && made.text === true) requireJson(body);
  return {
    body,
    headers: headersOf(made.headers, source),
    ...(made.url != null && { url: textOf(made.url, 'url') }),
    ...(made.cancel === true && { cancel: true as const }),
  };
}

function headersOf(given: unknown, source: string): string[] {
  if (given == null) return [];
  if (typeof given !== 'object' || Array.isArray(given)) {
    throw new ProgramError({ kind: 'output', message: 'The headers must be an object of texts.', path: 'headers' });
  }
  return Object.entries(given).flatMap(([name, value]) => {
    // A name that does not stand in the source may be a value of the event, which no fault may tell.
    const path = source.includes(name) ? `headers.${name.slice(0, 100)}` : 'headers';
    const text = typeof value === 'number' || typeof value === 'boolean' ? String(value) : textOf(value, path);
    if (HEADER_NAME.test(name) && HEADER_VALUE.test(text.trim())) return [name, text];
    throw new ProgramError({
      kind: 'output',
      message: 'A header cannot be sent: its name or value is too long, or has characters that no header may have.',
      path,
    });
  });
}

/** As `webhooks/headers.ts` has them, which judges what is reserved, too. */
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$/;
const HEADER_VALUE = /^[\t\x20-\x7e]{0,4096}$/;

function textOf(value: unknown, path: string): string {
  if (typeof value === 'string') return value;
  throw new ProgramError({ kind: 'output', message: 'It must be a text.', path });
}
