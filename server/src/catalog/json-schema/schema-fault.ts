import type { FieldProblem } from '../../kernel/errors.ts';

/** Thrown for the first thing that is wrong with a schema. */
export class SchemaFault extends Error {
  readonly problem: FieldProblem;

  /** `pointer`: the JSON pointer (RFC 6901) of the place within the schema. */
  constructor(pointer: string, message: string) {
    super(message);
    const keys = pointer.split('/').slice(1);
    const names = keys.map((key) => clip(key.replaceAll('~1', '/').replaceAll('~0', '~')));
    this.problem = { path: ['schema', ...names].join('.'), message };
  }
}

function clip(name: string): string {
  return name.length > 64 ? `${name.slice(0, 64)}…` : name;
}
