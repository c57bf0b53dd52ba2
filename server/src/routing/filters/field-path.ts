import { parsePath, type Segment } from '../../masking/path.ts';
import type { FilteredEvent } from './filtered-event.ts';
import { ExactNumber } from './numeric.ts';

/** Where a filter looks. */
export interface FieldPath {
  root: Root;
  steps: readonly Step[];
}

export type Root = 'data' | 'metadata' | 'event_type' | 'event_id' | 'timestamp';

/** The name of a member, which also is the place of an element; the place of an element; each element. */
type Step = string | number | typeof EACH;

const EACH = Symbol('each element');

/**
 * Reads `field_path`: the grammar of masking's paths without `**`. It begins at the event, as receivers get it in the
 * envelope `event_type`: `data.lead.score`, `metadata.source`, `event_type`, `event_id`, `timestamp`. What begins with none
 * of these is a path into the data, so `lead.score` is the same as `data.lead.score`.
 */
export function readFieldPath(text: string): { ok: true; path: FieldPath } | { ok: false; problem: string } {
  const parsed = parsePath(text);
  if (!parsed.ok) return parsed;
  const { segments } = parsed;
  if (segments.some(({ kind }) => kind === 'deep')) {
    return { ok: false, problem: 'cannot have **, only * for each element of an array' };
  }
  const steps = segments.map(stepOf);
  const [first] = steps;
  if (first === 'data' || first === 'metadata') return { ok: true, path: { root: first, steps: steps.slice(1) } };
  if (steps.length === 1 && (first === 'event_type' || first === 'event_id' || first === 'timestamp')) {
    return { ok: true, path: { root: first, steps: [] } };
  }
  return { ok: true, path: { root: 'data', steps } };
}

/**
 * Values that a path with `*` may look at. Those beyond are not there for the filter: a path must not cost more than
 * the delivery that it is about.
 */
const VALUES_LOOKED_AT_MAX = 10_000;

/**
 * Gives `found` each value at the path until it answers true, and whether it did. Members are those of the object
 * itself, `__proto__` among them. Calls of `found` and steps are counted as work of the event.
 */
export function someValueAt(
  event: FilteredEvent,
  { root, steps }: FieldPath,
  exact: boolean,
  found: (value: unknown) => boolean,
): boolean {
  let looked = 0;
  const walk = (value: unknown, depth: number): boolean => {
    if (looked >= VALUES_LOOKED_AT_MAX) return false;
    looked += 1;
    const step = steps[depth];
    if (step === undefined) return found(value);
    if (Array.isArray(value)) {
      if (step === EACH) {
        for (const element of value) {
          if (walk(element, depth + 1)) return true;
          if (looked >= VALUES_LOOKED_AT_MAX) return false;
        }
        return false;
      }
      const index = typeof step === 'number' ? step : indexOf(step);
      return index !== undefined && index < value.length && walk(value[index], depth + 1);
    }
    if (typeof step !== 'string' || typeof value !== 'object' || value === null) return false;
    // A number has no members, whatever stands for it here.
    if (value instanceof ExactNumber) return false;
    return Object.hasOwn(value, step) && walk((value as Record<string, unknown>)[step], depth + 1);
  };
  const value = event.root(root, exact);
  const result = value !== undefined && walk(value, 0);
  event.spend(looked);
  return result;
}

/** Whether a path may lead to several values. */
export function isOfMany({ steps }: FieldPath): boolean {
  return steps.includes(EACH);
}

function stepOf(segment: Segment): Step {
  switch (segment.kind) {
    case 'member':
      return segment.name;
    case 'element':
      return segment.index;
    default:
      return EACH;
  }
}

/** `0`, `12`, and not `007` or `-1`. */
function indexOf(name: string): number | undefined {
  return /^(?:0|[1-9]\d{0,8})$/.test(name) ? Number(name) : undefined;
}
