import { parsePath, type Segment } from './path.ts';

/** Places in the paths that a value has reached. */
export type Places = readonly number[];

/** A member's name or an element's index. */
export type Step = string | number;

/**
 * All paths of a tenant, walked side by side while a document is read. A place is a segment that the next step may
 * take; a value has few of them, so a step costs about as much as there are paths that begin like it.
 */
export class PathMatcher {
  /** A path means the value as a whole. */
  readonly hidesAll: boolean;
  readonly start: Places;
  readonly #segments: Segment[] = [];
  /** The segment is the last one of its path. */
  readonly #isLast: boolean[] = [];

  /** Paths that cannot be read are left out: they are refused where they are set. */
  constructor(paths: readonly string[]) {
    const start: number[] = [];
    let hidesAll = false;
    for (const path of paths) {
      const parsed = parsePath(path);
      if (!parsed.ok) continue;
      if (parsed.segments.length === 0) hidesAll = true;
      else start.push(this.#segments.length);
      for (const [at, segment] of parsed.segments.entries()) {
        this.#segments.push(segment);
        this.#isLast.push(at === parsed.segments.length - 1);
      }
    }
    this.hidesAll = hidesAll;
    this.start = this.#closed(start);
  }

  /** The value behind this step is one that a path means. */
  hides(places: Places, step: Step): boolean {
    return places.some((place) => this.#isLast[place] === true && takes(this.#segments[place] as Segment, step));
  }

  /** The places of the value behind this step. `restart`: paths may begin at it too. */
  next(places: Places, step: Step, restart: boolean): Places {
    if (places.length === 0) return restart ? this.start : NOWHERE;
    const reached: number[] = [];
    for (const place of places) {
      const segment = this.#segments[place] as Segment;
      if (segment.kind === 'deep') reached.push(place);
      else if (this.#isLast[place] === false && takes(segment, step)) reached.push(place + 1);
    }
    if (reached.length === 0) return restart ? this.start : NOWHERE;
    return this.#closed(restart ? [...reached, ...this.start] : reached);
  }

  /** `**` may also be no step at all, so whoever is there is behind it too. */
  #closed(places: readonly number[]): Places {
    const all = new Set(places);
    for (const place of places) {
      if (this.#segments[place]?.kind === 'deep' && this.#isLast[place] === false) all.add(place + 1);
    }
    return [...all];
  }
}

const NOWHERE: Places = [];

function takes(segment: Segment, step: Step): boolean {
  switch (segment.kind) {
    case 'member':
      return segment.name === step;
    case 'element':
      return segment.index === step;
    case 'elements':
      return typeof step === 'number';
    case 'any':
    case 'deep':
      return true;
  }
}
