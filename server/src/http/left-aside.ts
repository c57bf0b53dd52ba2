import { type TOptional, type TUnknown, Type } from 'typebox';

/**
 * Fields that only answers have, for the body of a change: whoever reads a thing, changes it in one place and sends all
 * of it back, means that place. They are left aside, whatever they say.
 */
export function leftAside<Name extends string>(...names: Name[]): Record<Name, TOptional<TUnknown>> {
  const field = Type.Optional(Type.Unknown({ readOnly: true, description: 'Of answers; left aside.' }));
  return Object.fromEntries(names.map((name) => [name, field])) as Record<Name, TOptional<TUnknown>>;
}
