import { type CompiledSchema, compileSchema, type SchemaCheck } from './json-schema/compile-schema.ts';

/**
 * Checks that were made out of schemas, kept by the schema's text: what a text means never changes, so nothing here has
 * to be invalidated, and tenants that use the same preset share one check. The one unused for longest makes room.
 */
export class CompiledSchemas {
  readonly #memoryBytesMax: number;
  readonly #checks = new Map<string, { check: SchemaCheck; memoryBytes: number }>();
  #memoryBytes = 0;

  /** `memoryBytesMax`: what all checks together may hold (64 MB); an ordinary schema's takes 5 to 50 KB. */
  constructor(memoryBytesMax = 67_108_864) {
    this.#memoryBytesMax = memoryBytesMax;
  }

  check(schemaText: string): SchemaCheck {
    const known = this.#checks.get(schemaText);
    if (known !== undefined) {
      this.#checks.delete(schemaText);
      this.#checks.set(schemaText, known);
      return known.check;
    }
    const made = toCheck(compileSchema(schemaText));
    this.#checks.set(schemaText, made);
    this.#memoryBytes += made.memoryBytes;
    for (const [oldest, { memoryBytes }] of this.#checks) {
      if (this.#memoryBytes <= this.#memoryBytesMax) break;
      this.#checks.delete(oldest);
      this.#memoryBytes -= memoryBytes;
    }
    return made.check;
  }
}

/** A stored schema was checked when it was written; one that an older release took lets nothing pass. */
function toCheck(compiled: CompiledSchema): { check: SchemaCheck; memoryBytes: number } {
  if (compiled.ok) return compiled;
  const { path, message } = compiled.problem;
  return {
    check: () => [{ path: '', message: `cannot be checked: the event type's ${path} ${message}` }],
    memoryBytes: 1_000,
  };
}
