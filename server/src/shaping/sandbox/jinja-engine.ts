import { Environment, initSync } from 'minijinja-js/dist/web/minijinja_js.js';
import { type Program, ProgramError, type ProgramFault, SHAPED_BYTES_MAX, type Shaped } from '../program.ts';
import { type CompiledJinja, compileJinja, jinjaTexts, PART } from './compile-jinja.ts';
import { fillJson, fillText } from './fill-json.ts';
import type { InputValues } from './input-values.ts';
import { scanTemplate } from './scan-template.ts';

/** About 20 ms of work on the machine where it was measured; a template of ten lines takes a hundred. */
const FUEL = 1_000_000;

const NAME = 'template';

/** What is rendered may be longer than what is made of it: `<` is six characters of it, as `tojson` spells it. */
const RENDERED_CHARACTERS_MAX = 6 * SHAPED_BYTES_MAX;

/** MiniJinja, in a memory that has a cap. It runs in the sandbox's thread. */
export class JinjaEngine {
  readonly #memory: WebAssembly.Memory;

  /** `module`: of MiniJinja, its memory capped. */
  constructor(module: WebAssembly.Module) {
    this.#memory = initSync({ module }).memory;
    // The first use compiles much of it, and is not to count as some program's.
    const environment = createEnvironment();
    environment.renderStr('{{ text|upper|tojson }}', { text: 'warm' });
    environment.free();
  }

  /** Bytes. It never shrinks. */
  get memoryBytes(): number {
    return this.#memory.buffer.byteLength;
  }

  /** Reads a program's Jinja. @throws ProgramError where it cannot be read. */
  prepare(program: Program): PreparedJinja {
    const compiled = compileJinja(program);
    if (!compiled.needsEngine) return new PreparedJinja(program, compiled, undefined);
    // Each has an engine's environment of its own, so that none can name another's template.
    const environment = createEnvironment();
    try {
      environment.addTemplate(NAME, compiled.template);
    } catch (error) {
      environment.free();
      throw new ProgramError(this.#syntaxFault(program) ?? faultOf(error, 'syntax'));
    }
    return new PreparedJinja(program, compiled, environment);
  }

  /** What is wrong with one of a program's texts by itself, so far as can be said without an event. */
  check(program: Program): ProgramFault | undefined {
    return this.#syntaxFault(program) ?? compileFault(program);
  }

  #syntaxFault(program: Program): ProgramFault | undefined {
    const environment = createEnvironment();
    try {
      for (const { path, source } of jinjaTexts(program)) {
        try {
          environment.addTemplate(NAME, source);
        } catch (error) {
          return { ...faultOf(error, 'syntax'), path };
        }
        const unknown = unknownFilter(environment, source);
        if (unknown !== undefined) return { kind: 'syntax', path, ...unknown };
      }
      return undefined;
    } finally {
      environment.free();
    }
  }
}

/** A program's Jinja, ready to be rendered for one event after the other. */
export class PreparedJinja {
  readonly #program: Program;
  readonly #compiled: CompiledJinja;
  readonly #environment: Environment | undefined;

  constructor(program: Program, compiled: CompiledJinja, environment: Environment | undefined) {
    this.#program = program;
    this.#compiled = compiled;
    this.#environment = environment;
  }

  free(): void {
    this.#environment?.free();
  }

  /** @throws ProgramError */
  run(values: InputValues): Shaped {
    const { paths, parts } = this.#compiled;
    const whole = this.#render(values);
    // Before it is cut: a text of many parts takes many times its memory.
    if (whole.length > RENDERED_CHARACTERS_MAX) {
      throw new ProgramError({ kind: 'limit', message: `It makes more than ${SHAPED_BYTES_MAX} bytes.` });
    }
    const rendered = whole.split(PART);
    if (rendered.length !== parts.length) {
      throw new ProgramError({ kind: 'output', message: 'The template gives a text with U+0000 in it.' });
    }
    const valueAt = (number: number) => {
      const path = paths[number];
      // No path has been given this number: what looks like its mark came through `|safe`.
      if (path === undefined) throw new ProgramError({ kind: 'output', message: 'The body is not JSON.' });
      return values.jsonAt(path);
    };
    const texts = rendered.map((text, at) => {
      const { json, ownPaths } = parts[at] as CompiledJinja['parts'][number];
      return json ? fillJson(text, valueAt) : fillText(text, ownPaths, valueAt);
    });
    const hasBody = this.#program.body?.language === 'jinja';
    const body = hasBody ? (texts.shift() ?? '') : null;
    if (body !== null && parts[0]?.check === true) requireJson(body);
    return { body, headers: this.#program.headers.flatMap(([name], at) => [name, texts[at] ?? '']) };
  }

  #render(values: InputValues): string {
    if (this.#environment === undefined) return this.#compiled.template;
    try {
      this.#environment.fuel = FUEL;
      return this.#environment.renderTemplate(NAME, values.forEngine);
    } catch (error) {
      const fault = faultOf(error, 'failed');
      throw new ProgramError(fault.kind === 'limit' ? fault : (this.#locate(values) ?? fault));
    }
  }

  /** The places in what was compiled are not those in what was written: the text that fails by itself knows its own. */
  #locate(values: InputValues): ProgramFault | undefined {
    const environment = createEnvironment();
    try {
      for (const { path, source } of jinjaTexts(this.#program)) {
        try {
          environment.renderStr(source, values.forEngine);
        } catch (error) {
          return { ...faultOf(error, 'failed'), path };
        }
      }
      return undefined;
    } finally {
      environment.free();
    }
  }
}

export function requireJson(body: string): void {
  if (body.length > SHAPED_BYTES_MAX) return;
  try {
    JSON.parse(body);
  } catch (error) {
    const at = /position (\d+)/.exec(error instanceof Error ? error.message : '')?.[1];
    throw new ProgramError({
      kind: 'output',
      message: `The body is not JSON${at === undefined ? '' : ` from character ${Number(at) + 1} on`}.`,
    });
  }
}

function createEnvironment(): Environment {
  const environment = new Environment();
  // Only then errors say where they are.
  environment.debug = true;
  environment.fuel = FUEL;
  environment.keepTrailingNewline = true;
  // What an event does not have is empty, however deep it would stand.
  environment.undefinedBehavior = 'chainable';
  environment.enablePyCompat();
  environment.removeGlobal('debug');
  // Jinja2 has it, and this build of MiniJinja does not.
  environment.addFilter('urlencode', urlencode);
  return environment;
}

/** As in Jinja2: an object gives `name=value&…`, and what is missing nothing. */
function urlencode(value: unknown): string {
  if (value instanceof Map) {
    return Array.from(value, ([name, each]) => `${urlencode(name)}=${urlencode(each)}`).join('&');
  }
  return value == null ? '' : encodeURIComponent(String(value).toWellFormed());
}

function compileFault(program: Program): ProgramFault | undefined {
  try {
    compileJinja(program);
    return undefined;
  } catch (error) {
    if (error instanceof ProgramError) return error.fault;
    throw error;
  }
}

/** A filter that does not exist is a fault of the text, though the engine finds out only when it comes to it. */
function unknownFilter(environment: Environment, source: string): Omit<ProgramFault, 'kind'> | undefined {
  let at = 0;
  for (const piece of scanTemplate(source) ?? []) {
    if (piece.kind === 'expression' || piece.kind === 'tag') {
      const bare = piece.source.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, (text) => ' '.repeat(text.length));
      for (const match of bare.matchAll(/\|\s*([A-Za-z_]\w*)/g)) {
        const name = match[1] ?? '';
        if (environment.renderStr('{{ name is filter }}', { name }) !== 'true') {
          const place = placeOf(source, at + match.index + match[0].length - name.length);
          return { message: `There is no filter "${name}".`, ...place };
        }
      }
    }
    at += piece.source.length;
  }
  return undefined;
}

function placeOf(source: string, offset: number): { line: number; column: number } {
  const before = source.slice(0, offset).split('\n');
  return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
}

/**
 * Reads an error of the engine: `undefined value: … (in template:2)`, and below it the line with carets under the place.
 * What stands behind the kind may quote the event.
 */
function faultOf(error: unknown, kind: 'syntax' | 'failed'): ProgramFault {
  if (error instanceof WebAssembly.RuntimeError || !(error instanceof Error)) throw error;
  const [head = '', ...lines] = error.message.split('\n');
  const found = /^(.*?) \(in .*:(\d+)\)$/.exec(head);
  const text = found?.[1] ?? head;
  const line = found?.[2] === undefined ? undefined : Number(found[2]);
  const carets = lines.findIndex((each) => /^ +i +\^/.test(each));
  // The text of each line begins behind its number and three more characters.
  const margin = lines[carets - 1]?.search(/[>|] /) ?? -1;
  const column = carets > 0 && margin !== -1 ? (lines[carets] ?? '').indexOf('^') - (margin + 2) + 1 : undefined;
  const what = text.split(':')[0] ?? text;
  const place = { ...(line !== undefined && { line }), ...(column !== undefined && { column }) };
  if (text.includes('ran out of fuel')) return { kind: 'limit', message: 'The template takes too many steps.' };
  if (text.includes('recursion limit')) return { kind: 'limit', message: 'The template goes too deep.' };
  if (kind === 'syntax') return { kind, message: `${sentence(text.replace(/^syntax error: /, ''))}`, ...place };
  return { kind, message: `The template failed: ${what}.`, detail: sentence(text), ...place };
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.$/, '')}.`;
}
