/**
 * Work that one check of a document against a schema may take.
 *
 * Schemas come from tenants, and a short one can ask for endless work: each level of `allOf` with the same `$ref`
 * twice doubles it, and so does each level of the document below a schema that refers to itself twice. No limit on
 * size or depth rules that out without ruling out honest schemas, so the work itself is counted and cut off.
 */
export class Budget {
  #units: number;
  #levels = 0;

  constructor(units: number) {
    this.#units = units;
  }

  /** @throws BudgetSpent */
  spend(units: number): void {
    this.#units -= units;
    if (this.#units < 0) throw new BudgetSpent();
  }

  /** @throws BudgetSpent before the engine's own stack would end. */
  enter(): void {
    this.#levels += 1;
    if (this.#levels > LEVELS_MAX) throw new BudgetSpent();
    this.spend(1);
  }

  leave(): void {
    this.#levels -= 1;
  }
}

/** Thrown through the evaluation and caught where it began; nobody else sees it. */
export class BudgetSpent extends Error {}

/**
 * What a check of `data` may take: a unit is 20 to 200 ns. An honest schema takes 1 to 3 units a byte of JSON, so the
 * allowance of a small document is generous and that of a large one is enough.
 */
export function budgetFor(data: unknown): Budget {
  return new Budget(5_000 + 4 * roughBytes(data));
}

/** About the length of the data's JSON text, found without writing it. */
function roughBytes(data: unknown): number {
  if (typeof data === 'string') return data.length + 3;
  if (typeof data !== 'object' || data === null) return 4;
  let bytes = 2;
  if (Array.isArray(data)) {
    for (const item of data) bytes += roughBytes(item);
    return bytes;
  }
  for (const name in data) bytes += name.length + 4 + roughBytes((data as Record<string, unknown>)[name]);
  return bytes;
}

/** Schemas inside schemas that are being evaluated; each takes some 500 bytes of the engine's stack of 1 MB. */
const LEVELS_MAX = 500;
