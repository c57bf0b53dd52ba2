import { Ajv, type ValidateFunction } from 'ajv';
import addFormats from 'ajv-formats';

const strict = new Ajv({ allErrors: true, useDefaults: true, strict: false });
const coercing = new Ajv({ allErrors: true, useDefaults: true, coerceTypes: true, strict: false });
addFormats.default(strict);
addFormats.default(coercing);

/** A JSON body already has its types. */
export function compileBody<T>(schema: object): ValidateFunction<T> {
  return strict.compile<T>(schema);
}

/** Query strings and path parameters are text and become what the schema says. */
export function compileText<T>(schema: object): ValidateFunction<T> {
  return coercing.compile<T>(schema);
}
