import type { FieldProblem } from '../../kernel/errors.ts';
import type { Budget } from './budget.ts';
import type { Schema } from './schema-node.ts';

export type Applies = (schema: Schema, value: unknown, run: Evaluation, evaluated?: Evaluated) => boolean;

/** One check of a document: the work left, where it is in the document, and what it found. */
export class Evaluation {
  readonly budget: Budget;
  /**
   * Checks a value against a schema that the current one applies to it. The files of the keywords call it, and the one
   * that knows all keywords gives it, so that they need not know each other.
   */
  readonly applies: Applies;
  readonly problems: FieldProblem[] = [];
  readonly #path: (string | number)[] = [];
  #trials = 0;

  constructor(budget: Budget, applies: Applies) {
    this.budget = budget;
    this.applies = applies;
  }

  /** True when another problem would change nothing, so that loops may end. */
  get decided(): boolean {
    return this.#trials > 0 || this.problems.length >= PROBLEMS_MAX;
  }

  /** Notes a problem of the current value, or of its member `name`; always false. */
  fail(message: string, name?: string): false {
    if (!this.decided) this.problems.push({ path: this.#dotted(name), message });
    return false;
  }

  /** Runs `check` on a member or element of the current value. */
  below(key: string | number, check: () => boolean): boolean {
    this.#path.push(key);
    const fits = check();
    this.#path.pop();
    return fits;
  }

  /** Runs `check` only to know its result: what does not fit there is no problem by itself. */
  attempt(check: () => boolean): boolean {
    this.#trials += 1;
    const fits = check();
    this.#trials -= 1;
    return fits;
  }

  #dotted(name: string | undefined): string {
    const keys = name === undefined ? this.#path : [...this.#path, name];
    return keys.map((key) => (typeof key === 'string' && key.length > 64 ? `${key.slice(0, 64)}…` : key)).join('.');
  }
}

/** Problems reported for one document; the first few are what a person reads. */
const PROBLEMS_MAX = 20;

/**
 * Which members and elements of one value some schema has looked at: what `unevaluatedProperties` and
 * `unevaluatedItems` go by (2020-12 core, section 11).
 */
export class Evaluated {
  readonly names = new Set<string>();
  readonly positions = new Set<number>();
  allNames = false;
  allPositions = false;

  add(other: Evaluated, budget: Budget): void {
    budget.spend((other.names.size + other.positions.size) / 2);
    for (const name of other.names) this.names.add(name);
    for (const position of other.positions) this.positions.add(position);
    this.allNames ||= other.allNames;
    this.allPositions ||= other.allPositions;
  }
}
