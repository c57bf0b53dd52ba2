import { type Static, type TSchema, Type } from 'typebox';

/**
 * The same schema, with null allowed beside it. It says `type: [..., "null"]` rather than a union, because a union's
 * errors name every branch that did not fit, and a person cannot tell from them what was wrong.
 */
export function orNull<T extends TSchema & { type?: string | string[]; enum?: unknown[] }>(schema: T) {
  const { type, enum: values } = schema;
  return Type.Unsafe<Static<T> | null>({
    ...schema,
    ...(type !== undefined && { type: [type, 'null'].flat() }),
    ...(values !== undefined && { enum: [...values, null] }),
  });
}
