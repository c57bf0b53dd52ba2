import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import addFormats from 'ajv-formats';

/** They stop at the first thing that is wrong. */
const strict = ajv({ allErrors: false });
const coercing = ajv({ allErrors: false, coerceTypes: true });
/** They find all of it: a caller has a form with several mistakes back at once. */
const strictAll = ajv({ allErrors: true });
const coercingAll = ajv({ allErrors: true, coerceTypes: true });

function ajv(options: { allErrors: boolean; coerceTypes?: boolean }): Ajv {
  const made = new Ajv({ useDefaults: true, strict: false, ...options });
  addFormats.default(made);
  return made;
}

/** Values that a request may have to be looked through to the end when one of them is wrong. */
const LOOKED_THROUGH_MAX = 2_000;

/** What is wrong with a part of a request; undefined: nothing. It gets the defaults that the schema has. */
export type Validate = (data: unknown) => ErrorObject[] | undefined;

/** Of a JSON body, which already has its types: whether it is as the schema says. */
export function compileBody<T>(schema: object): (data: unknown) => data is T {
  const validate = strict.compile<T>(schema);
  return (data): data is T => validate(data);
}

/** The same, with what is wrong. */
export function compileBodyProblems(schema: object): Validate {
  return compile(schema, strict, strictAll);
}

/** Query strings and path parameters are text and become what the schema says. */
export function compileTextProblems(schema: object): Validate {
  return compile(schema, coercing, coercingAll);
}

/**
 * All that is wrong is looked for only where there is little to look at: of a megabyte of ones where texts belong that
 * would be half a million errors, which take a third of a second and 80 MB, and Ajv keeps those of each schema until its
 * next use.
 */
function compile(schema: object, first: Ajv, all: Ajv): Validate {
  const findFirst = first.compile(schema);
  let findAll: ValidateFunction | undefined;
  return (data) => {
    if (findFirst(data)) return undefined;
    if (isMoreThan(data, LOOKED_THROUGH_MAX)) return takeErrors(findFirst);
    // Most routes refuse nothing for months.
    findAll ??= all.compile(schema);
    return findAll(data) ? undefined : takeErrors(findAll);
  };
}

function takeErrors(validate: ValidateFunction): ErrorObject[] {
  const errors = validate.errors ?? [];
  validate.errors = null;
  return errors;
}

/** Whether JSON has more values than that; it looks at no more of them. */
function isMoreThan(data: unknown, valuesMax: number): boolean {
  let left = valuesMax;
  const look = (value: unknown): boolean => {
    left -= 1;
    if (left < 0) return true;
    if (typeof value !== 'object' || value === null) return false;
    if (Array.isArray(value)) return value.some(look);
    for (const name in value) if (look((value as Record<string, unknown>)[name])) return true;
    return false;
  };
  return look(data);
}
