import type { Program } from './program.ts';
import type { StoredTemplate } from './stored-templates.ts';
import { programOf, storedName, type Transformation } from './transformation.ts';

/** How a webhook's requests are shaped, beyond its envelope. */
export interface Shaping {
  /** By event type; null: for all others. */
  readonly programs: ReadonlyMap<string | null, ShapingProgram>;
  /** What it was made of. */
  readonly transformation: Transformation | null;
  readonly headers: Program['headers'];
}

export interface ShapingProgram {
  readonly program: Program;
  /** Of the body that it makes. */
  readonly contentType: string;
  /** The stored template that it is; null: the webhook's own. */
  readonly template: { readonly id: string; readonly version: number } | null;
}

/**
 * What shapes a webhook's requests; null: nothing, and requests are built without the sandbox. `stored`: the templates
 * that it names.
 */
export function createShaping(
  transformation: Transformation | null,
  headers: Program['headers'],
  stored: readonly StoredTemplate[],
): Shaping | null {
  const own = transformation?.enabled === true ? transformation : null;
  if (own === null && headers.length === 0) return null;
  const programs = new Map<string | null, ShapingProgram>();
  if (own === null || storedName(own.template) === undefined) programs.set(null, shapingProgram(own, headers, null));
  else {
    for (const { id, version, eventType, content } of stored) {
      programs.set(eventType, shapingProgram(content, headers, { id, version }));
    }
  }
  return { programs, transformation, headers };
}

/** The stored template that it names; undefined: none. */
export function namedTemplate({ transformation }: Shaping): string | undefined {
  return transformation?.enabled === true ? storedName(transformation.template) : undefined;
}

function shapingProgram(
  content: Parameters<typeof programOf>[0],
  headers: Program['headers'],
  template: ShapingProgram['template'],
): ShapingProgram {
  return { program: programOf(content, headers), contentType: content?.content_type ?? '', template };
}

/** What shapes an event; undefined: the template that the webhook names is not there, or not for such events. */
export function shapingOf(shaping: Shaping, eventType: string): ShapingProgram | undefined {
  return shaping.programs.get(eventType) ?? shaping.programs.get(null);
}
