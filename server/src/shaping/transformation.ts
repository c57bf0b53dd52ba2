import { type Static, type TSchema, Type } from 'typebox';
import type { FieldProblem } from '../kernel/errors.ts';
import { type BodySource, createProgram, type Json, type Program, type ProgramFault } from './program.ts';

const LANGUAGES = ['jinja', 'javascript'] as const;
export type Language = (typeof LANGUAGES)[number];

/** Bytes of a template as JSON. */
const TEMPLATE_BYTES_MAX = 65_536;

/** How deep objects and arrays of a template may stand in one another. */
const TEMPLATE_DEPTH_MAX = 50;

const orNull = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);

const WRITTEN_AS =
  'A JSON value whose texts are Jinja2 templates, a text of Jinja2, or with `language` `javascript` a function ' +
  '`(event) => ({ body, headers, url?, cancel? })`. At most 64 KB of JSON. See docs/templates.md.';

/** What a template may be written as, and what is said of it: the same for stored ones and for a webhook's own. */
export const templateFields = {
  template: Type.Unsafe<Json>({ description: WRITTEN_AS }),
  language: Type.Unsafe<Language>({ type: 'string', enum: [...LANGUAGES], description: 'Default `jinja`.' }),
  native: Type.Boolean({
    description:
      'Of a JSON value: a text that is one `{{ expression }}` alone gives the value itself, a number, boolean, object ' +
      'or array. Default false: all of them give texts.',
  }),
  content_type: Type.String({
    maxLength: 200,
    pattern: '^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *; *[A-Za-z0-9_-]+=[A-Za-z0-9_.-]+)*$',
    description: 'Of the body. Default `application/json`; a body of JSON is one that can be read as such.',
  }),
};

/** `transformation` in a request: absent leaves a field as it is, null gives its default back. */
export const TransformationInput = Type.Object(
  {
    enabled: Type.Optional(
      orNull(Type.Boolean({ description: 'Default true. false: the template is kept and the envelope is sent.' })),
    ),
    template: Type.Optional(Type.Unsafe<Json>({ description: `The name of a stored template, or: ${WRITTEN_AS}` })),
    language: Type.Optional(orNull(templateFields.language)),
    native: Type.Optional(orNull(templateFields.native)),
    content_type: Type.Optional(orNull(templateFields.content_type)),
  },
  { additionalProperties: false },
);
export type TransformationInput = Static<typeof TransformationInput>;

export const TransformationShown = Type.Object({
  enabled: Type.Boolean(),
  template: templateFields.template,
  language: templateFields.language,
  native: templateFields.native,
  content_type: templateFields.content_type,
});

/** What a template is: a stored version of one, or a webhook's own. */
export interface TemplateContent {
  readonly template: Json;
  readonly language: Language;
  readonly native: boolean;
  readonly content_type: string;
  /** Jinja texts, by name; only stored templates have them, beside those of the webhook. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a webhook says for itself; as stored in `webhooks.transformation`. */
export interface Transformation extends TemplateContent {
  readonly enabled: boolean;
}

export const DEFAULT_CONTENT = { language: 'jinja', native: false, content_type: 'application/json' } as const;

/** The transformation after a change; null: none. It may still be wrong: `contentProblem` says so. */
export function changeTransformation(
  current: Transformation | null,
  given: TransformationInput | null | undefined,
): Transformation | null {
  if (given === undefined) return current;
  if (given === null) return null;
  const defaults = { enabled: true, ...DEFAULT_CONTENT };
  const before = current ?? { template: null, ...defaults };
  const said = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const cleared = Object.fromEntries(
    Object.entries(defaults).filter(([name]) => given[name as keyof TransformationInput] === null),
  );
  return { ...before, ...said, ...cleared } as Transformation;
}

/** What is wrong with it, without reading it as a program. Paths begin at the object that it is. */
export function contentProblem({
  template,
  language,
}: Pick<TemplateContent, 'template' | 'language'>): FieldProblem | undefined {
  const path = 'template';
  if (template === null || template === undefined) return { path, message: 'must be given' };
  if (depthOf(template) > TEMPLATE_DEPTH_MAX) {
    return { path, message: `must be nested at most ${TEMPLATE_DEPTH_MAX} deep` };
  }
  const json = JSON.stringify(template);
  if (Buffer.byteLength(json) > TEMPLATE_BYTES_MAX) {
    return { path, message: `must be at most ${TEMPLATE_BYTES_MAX} bytes of JSON` };
  }
  // PostgreSQL can read neither out of JSON; JSON.stringify writes both as escapes.
  if (/(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/.test(json)) {
    return { path, message: 'must have no NUL characters and no halves of surrogate pairs' };
  }
  if (typeof template === 'string' && template.trim() === '') return { path, message: 'must not be empty' };
  if (language === 'javascript' && typeof template !== 'string') {
    return { path, message: 'must be a text: the source of a function' };
  }
  return undefined;
}

/** Without recursion: it is what says that recursion is safe. */
function depthOf(value: Json): number {
  let depth = 0;
  for (let level: Json[] = [value]; level.length > 0 && depth <= TEMPLATE_DEPTH_MAX + 1; depth += 1) {
    level = level.flatMap((each) => (typeof each === 'object' && each !== null ? (Object.values(each) as Json[]) : []));
  }
  return depth;
}

/** The name of a stored template, or the id of one; undefined: the template is the webhook's own. */
export function storedName(template: Json): string | undefined {
  return typeof template === 'string' && STORED_NAME.test(template) ? template : undefined;
}

/** What is said of a webhook whose `transformation.template` names a template that is not there. */
export function noSuchTemplate(name: string): string {
  return `names no stored template: there is no "${name}"`;
}

/** No template and no function looks like it. */
const STORED_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/;
export const STORED_NAME_PATTERN = STORED_NAME.source;

/** A header's value that is a template. */
export function isTemplated(value: string): boolean {
  return value.includes('{{') || value.includes('{%');
}

/** A template as it is run, with a webhook's templated headers; its own take the place of those of the same name. */
export function programOf(content: TemplateContent | null, headers: Program['headers']): Program {
  const own = Object.entries(content?.headers ?? {});
  return createProgram(content === null ? null : bodyOf(content), [...headers, ...own]);
}

function bodyOf({ template, language, native, content_type: contentType }: TemplateContent): BodySource {
  const json = isJson(contentType);
  if (language === 'javascript') return { language, template: typeof template === 'string' ? template : '', json };
  // A JSON value gives JSON, whatever it is called.
  return { language, template, native, json: json || typeof template !== 'string' };
}

/** Of a content type: the body is JSON. */
export function isJson(contentType: string): boolean {
  return /^[^;]*[/+]json *(;|$)/i.test(contentType);
}

/** A program's fault as a problem of the field that holds it. */
export function fieldProblem(field: string, { path, message, line, column }: ProgramFault): FieldProblem {
  return {
    path: [field, path].filter((part) => part !== undefined && part !== '').join('.'),
    message,
    ...(line !== undefined && { line }),
    ...(column !== undefined && { column }),
  };
}
