import { type Static, type TOptional, type TSchema, type TUnsafe, Type } from 'typebox';

type Nullable = TSchema & { type?: string | string[]; enum?: unknown[] };

/**
 * The same schema, with null allowed beside it. It says `type: [..., "null"]` rather than a union, because a union's
 * errors name every branch that did not fit, and a person cannot tell from them what was wrong.
 */
export function orNull<T extends Nullable>(schema: T) {
  const { type, enum: values } = schema;
  return Type.Unsafe<Static<T> | null>({
    ...schema,
    ...(type !== undefined && { type: [type, 'null'].flat() }),
    ...(values !== undefined && { enum: [...values, null] }),
  });
}

/** Fields in a request that changes them: an absent one stays as it is, null gives it its default back. */
export function changeable<F extends Record<string, Nullable>>(fields: F) {
  const changing = Object.entries(fields).map(([name, field]) => [name, Type.Optional(orNull(field))]);
  return Object.fromEntries(changing) as { [K in keyof F]: TOptional<TUnsafe<Static<F[K]> | null>> };
}
