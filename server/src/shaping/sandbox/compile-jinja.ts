import { type BodySource, type Json, type Program, ProgramError } from '../program.ts';
import { type Piece, scanTemplate } from './scan-template.ts';

/**
 * A program's Jinja as one template of the engine, so that an event is handed to it once.
 *
 * What it renders has the parts (the body first, if there is one, then the headers) with `PART` between them. In a body
 * that is JSON each value stands between `OPEN` and `CLOSE`, as JSON; `fill-json.ts` puts it where it belongs, within a
 * text or as a value, so that no value can end the text that it stands in. A value that a path names needs no engine: `#`
 * and its number stand for it.
 */
export interface CompiledJinja {
  template: string;
  /** It has an expression or a tag; otherwise `template` is what it would render. */
  needsEngine: boolean;
  paths: readonly ValuePath[];
  parts: readonly Part[];
}

interface Part {
  json: boolean;
  /** The body was written as one text of JSON, or something is put in as it is: it may turn out to be none. */
  check: boolean;
  /** Of a part that is no JSON: the paths that stand in it, in their order, as `[from, to)`. */
  ownPaths: readonly [from: number, to: number];
}

/** Where a value stands in the event: `['data', 'lead', 'id']`. */
export type ValuePath = readonly string[];

/** A text that a tenant wrote, and where. */
export interface JinjaText {
  path: string;
  source: string;
}

export const OPEN = '\u0001';
export const CLOSE = '\u0002';
export const PART = '\u0000';

/** What expressions can name. */
const ROOTS: readonly string[] = ['data', 'metadata', 'event_type', 'event_id', 'timestamp', 'attempt'];

/** All texts of a program with Jinja in them, in their order. */
export function jinjaTexts(program: Program): JinjaText[] {
  const texts: JinjaText[] = [];
  const { body } = program;
  if (body?.language === 'jinja') collect(body.template, 'template', texts);
  for (const [name, source] of program.headers) texts.push({ path: `headers.${name}`, source });
  return texts;
}

function collect(value: Json, path: string, texts: JinjaText[]): void {
  if (typeof value === 'string') texts.push({ path, source: value });
  else if (Array.isArray(value)) for (const [at, each] of value.entries()) collect(each, `${path}.${at}`, texts);
  else if (value !== null && typeof value === 'object') {
    for (const [name, each] of Object.entries(value)) {
      texts.push({ path: `${path}.${name}`, source: name });
      collect(each, `${path}.${name}`, texts);
    }
  }
}

/** @throws ProgramError for what the engine would take and this program must not have. */
export function compileJinja(program: Program): CompiledJinja {
  const compiler = new Compiler();
  const { body } = program;
  if (body?.language === 'jinja') compiler.body(body);
  for (const [name, source] of program.headers) compiler.header(`headers.${name}`, source);
  return compiler.finish();
}

class Compiler {
  #template = '';
  #needsEngine = false;
  #putsInAsIs = false;
  readonly #paths: ValuePath[] = [];
  readonly #parts: Part[] = [];

  body({ template, native, json }: Extract<BodySource, { language: 'jinja' }>): void {
    if (typeof template === 'string') {
      this.#text('template', template, json ? 'json' : 'plain', unchanged);
    } else this.#json('template', template, native);
    const check = json && (typeof template === 'string' || this.#putsInAsIs);
    this.#parts.push({ json, check, ownPaths: [0, this.#paths.length] });
  }

  header(path: string, source: string): void {
    if (this.#parts.length > 0) this.#template += PART;
    const from = this.#paths.length;
    this.#text(path, source, 'plain', unchanged);
    this.#parts.push({ json: false, check: false, ownPaths: [from, this.#paths.length] });
  }

  finish(): CompiledJinja {
    return {
      template: this.#template,
      needsEngine: this.#needsEngine,
      paths: this.#paths,
      parts: this.#parts,
    };
  }

  #json(path: string, value: Json, native: boolean): void {
    if (typeof value === 'string') this.#leaf(path, value, native);
    else if (Array.isArray(value)) {
      for (const [at, each] of value.entries()) {
        this.#template += at === 0 ? '[' : ',';
        this.#json(`${path}.${at}`, each, native);
      }
      this.#template += value.length === 0 ? '[]' : ']';
    } else if (value !== null && typeof value === 'object') {
      const members = Object.entries(value);
      for (const [at, [name, each]] of members.entries()) {
        this.#template += at === 0 ? '{' : ',';
        this.#leaf(`${path}.${name}`, name, false);
        this.#template += ':';
        this.#json(`${path}.${name}`, each, native);
      }
      this.#template += members.length === 0 ? '{}' : '}';
    } else this.#template += JSON.stringify(value);
  }

  #leaf(path: string, source: string, native: boolean): void {
    const pieces = scanTemplate(source);
    const [only] = pieces ?? [];
    if (native && pieces?.length === 1 && only?.kind === 'expression') {
      this.#expression(only, true);
      return;
    }
    this.#template += '"';
    this.#text(path, source, 'json', (text) => JSON.stringify(text).slice(1, -1));
    this.#template += '"';
  }

  #text(path: string, source: string, mode: 'json' | 'plain', literal: (text: string) => string): void {
    const pieces = scanTemplate(source);
    if (pieces === undefined)
      throw new ProgramError({ kind: 'syntax', message: 'Something in it does not end.', path });
    if (hasMarks(source)) {
      throw new ProgramError({ kind: 'syntax', message: 'It must have no control characters like U+0000.', path });
    }
    const tags = pieces.filter((piece) => piece.kind === 'tag');
    const fault = refusedTag(tags) ?? (mode === 'json' ? refusedLoop(pieces, tags) : undefined);
    if (fault !== undefined) throw new ProgramError({ kind: 'syntax', message: fault, path });
    // A name that one text sets is not to be seen in the next.
    const sets = tags.some(({ name }) => SETTING.has(name));
    if (sets) this.#template += '{% with %}';
    let captured = 0;
    for (const [at, piece] of pieces.entries()) {
      if (piece.kind === 'tag') {
        this.#needsEngine = true;
        const ends = END_OF_CAPTURE.has(piece.name);
        if (ends) captured -= 1;
        this.#template += mode === 'json' && captured === 0 ? markedTag(piece) : piece.source;
        if (CAPTURING.has(piece.name) || isBlockSet(piece)) captured += 1;
      } else if (piece.kind === 'expression') {
        if (captured > 0) {
          this.#needsEngine = true;
          this.#template += piece.source;
        } else this.#expression(piece, mode === 'json', tags.length === 0);
      } else if (piece.kind === 'comment') {
        this.#needsEngine = true;
        this.#template += piece.source;
      } else if (piece.kind === 'raw') {
        this.#needsEngine = true;
        const text = captured > 0 ? piece.text : literal(piece.text);
        this.#template += piece.open + text + piece.close;
      } else this.#template += captured > 0 ? piece.source : literal(trimmed(piece.source, pieces, at));
    }
    if (sets) this.#template += '{% endwith %}';
  }

  /** `direct`: no tag beside it could have given one of its names another meaning. */
  #expression(piece: Extract<Piece, { kind: 'expression' }>, json: boolean, direct = true): void {
    const { inner } = piece;
    const path = direct ? pathOf(inner) : undefined;
    if (path !== undefined) {
      const number = this.#paths.push(path) - 1;
      this.#template += `${OPEN}#${number}${CLOSE}`;
      return;
    }
    this.#needsEngine = true;
    if (SAFE.test(inner)) this.#putsInAsIs = true;
    if (!json || PUNCTUATION.test(inner) || SAFE.test(inner) || isLoopCall(piece)) this.#template += piece.source;
    else {
      const bare = withoutTexts(inner);
      const value = AS_JSON.test(bare) && !OPERATORS.test(bare) ? inner : `(${inner})|tojson`;
      this.#template += `${opening(piece)}{{ ${value} }}${closing(piece)}`;
    }
  }
}

type Tag = Extract<Piece, { kind: 'tag' }>;

/** Where white space before or behind a piece is to be taken away, the mark beside it has to do that. */
function opening({ before }: { before: string }): string {
  return before === '' ? OPEN : `{{${before} "\\u0001" }}`;
}

function closing({ after }: { after: string }): string {
  return after === '' ? CLOSE : `{{ "\\u0002" ${after}}}`;
}

/** A tag of a text of JSON. What `filter` and `call` give stands where they do: it is made a value, between marks. */
function markedTag(tag: Tag): string {
  const { name, inner, source } = tag;
  if (name === 'filter') return `${opening(tag)}{% ${inner}|tojson ${tag.after}%}`;
  if (name === 'call') return `${opening(tag)}{% filter tojson %}{% ${inner} ${tag.after}%}`;
  if (name === 'endfilter') return `${source.slice(0, -2 - tag.after.length)}%}${closing(tag)}`;
  if (name === 'endcall') return `${source.slice(0, -2 - tag.after.length)}%}{% endfilter %}${closing(tag)}`;
  return source;
}

function refusedTag(tags: readonly Tag[]): string | undefined {
  const refused = tags.find(({ name }) => REFUSED.has(name));
  return refused && `There is no tag "${refused.name}" here.`;
}

/** Marks are put in their places only where a loop's text is put in as it is: what is made of it must be nothing else. */
function refusedLoop(pieces: readonly Piece[], tags: readonly Tag[]): string | undefined {
  const calls = pieces.filter(isLoopCall);
  if (calls.length === 0) return undefined;
  const isAlone = calls.every(
    (piece) => piece.kind === 'expression' && LOOP_CALL_ALONE.test(withoutTexts(piece.inner)),
  );
  const isNamedOtherwise = tags.some(({ inner }) => LOOP_OTHERWISE.test(withoutTexts(inner)));
  return isAlone && !isNamedOtherwise
    ? undefined
    : 'In JSON, loop(…) must be the whole of an expression, and "loop" no name of something else.';
}

/** `{{ loop(item.children) }}` gives what the loop's text is for them, whose values have their marks already. */
function isLoopCall(piece: Piece): boolean {
  return piece.kind === 'expression' && LOOP_CALL.test(withoutTexts(piece.inner));
}

const LOOP_CALL = /(?<![.\w])loop\s*\(/;
const LOOP_CALL_ALONE = /^\s*loop\s*\((?:[^()]|\([^()]*\))*\)\s*$/;
const LOOP_OTHERWISE = /(?<![.\w])loop\b(?!\s*\.)/;

function withoutTexts(expression: string): string {
  return expression.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, '""');
}

const unchanged = (text: string): string => text;

function hasMarks(source: string): boolean {
  return source.includes(OPEN) || source.includes(CLOSE) || source.includes(PART);
}

/** White space that a neighbour takes away goes before line ends are written as escapes, where it would be missed. */
function trimmed(text: string, pieces: readonly Piece[], at: number): string {
  const [before, after] = [pieces[at - 1], pieces[at + 1]];
  const ended = before !== undefined && 'after' in before && before.after === '-' ? text.trimStart() : text;
  return after !== undefined && 'before' in after && after.before === '-' ? ended.trimEnd() : ended;
}

/** They reach for other templates, of which there are none, or turn off what keeps values in their places. */
const REFUSED = new Set(['autoescape', 'block', 'extends', 'from', 'import', 'include']);

/** What stands in them is a text, which is put in its place as a whole. */
const CAPTURING = new Set(['call', 'filter', 'macro']);
const END_OF_CAPTURE = new Set(['endcall', 'endfilter', 'endmacro', 'endset']);
const SETTING = new Set(['macro', 'set']);

function isBlockSet(piece: Extract<Piece, { kind: 'tag' }>): boolean {
  return piece.name === 'set' && !/^\s*set\s+[\w.,\s()]+=/.test(piece.inner);
}

/** A path and nothing else: `data.lead.id`, `data['lead id'][0]`. */
function pathOf(expression: string): ValuePath | undefined {
  const text = expression.trim();
  const root = /^[a-z_]+/.exec(text)?.[0] ?? '';
  if (!ROOTS.includes(root) || !PATH.test(text)) return undefined;
  return [
    root,
    ...[...text.slice(root.length).matchAll(STEP)].map(([, name, quoted, index]) => name ?? quoted ?? index ?? ''),
  ];
}

const PATH = /^[a-z_]+(?:\s*\.\s*[A-Za-z_]\w*|\[\s*(?:"[^"\\]*"|'[^'\\]*'|\d+)\s*\])*$/;
const STEP = /\.\s*([A-Za-z_]\w*)|\[\s*["']([^"']*)["']\s*\]|\[\s*(\d+)\s*\]/g;

/** `{{ "," if not loop.last }}`: punctuation of the template's own. */
const PUNCTUATION = /^\s*(?:"[\s,:{}[\]]*"|'[\s,:{}[\]]*')\s+if\s+(?:not\s+)?loop\.(?:first|last)\s*$/;

/** Its author answers for it. */
const SAFE = /\|\s*safe\s*$/;

/** The whole of it is JSON already. With an operator in it, only its last operand might be. */
const AS_JSON = /^[\w\s.|()[\]'"=]*\|\s*tojson\s*(?:\([^()]*\))?\s*$/;
const OPERATORS = /\b(?:and|else|if|in|is|not|or)\b/;
