import type { FieldProblem } from '../../kernel/errors.ts';
import { type CompiledFilter, compileFilter, newFilterPatternAllowance } from './compile-filter.ts';
import type { Filter, FilterMode } from './filter.ts';
import type { FilteredEvent } from './filtered-event.ts';

/** The filters of one webhook. Immutable. */
export interface FilterSet {
  matches(event: FilteredEvent): boolean;
  /** What each filter says by itself, in the order they were given. */
  explain(event: FilteredEvent): CompiledVerdict[];
}

export interface CompiledVerdict {
  matches: boolean;
  path: CompiledFilter['path'];
}

/** Prepares filters; null where there is none. What is wrong with them is told with paths such as `filters.0.value`. */
export function compileFilters(
  filters: readonly Filter[],
  mode: FilterMode,
): { ok: true; set: FilterSet | null } | { ok: false; problems: FieldProblem[] } {
  const patterns = newFilterPatternAllowance();
  const compiled: CompiledFilter[] = [];
  const problems: FieldProblem[] = [];
  for (const [at, filter] of filters.entries()) {
    const result = compileFilter(filter, patterns);
    if (result.ok) compiled.push(result.filter);
    else problems.push({ path: `filters.${at}.${result.problem.field}`, message: result.problem.message });
  }
  if (problems.length > 0) return { ok: false, problems };
  if (compiled.length === 0) return { ok: true, set: null };
  const cheapFirst = [...compiled.filter(({ isCostly }) => !isCostly), ...compiled.filter(({ isCostly }) => isCostly)];
  const matches =
    mode === 'all'
      ? (event: FilteredEvent) => cheapFirst.every((filter) => filter.matches(event))
      : (event: FilteredEvent) => cheapFirst.some((filter) => filter.matches(event));
  return {
    ok: true,
    set: {
      matches,
      explain: (event) => compiled.map((filter) => ({ matches: filter.matches(event), path: filter.path })),
    },
  };
}

/**
 * The filters of a webhook as its row has them. They are compiled when the first event comes, and once: reading thousands
 * of webhooks with a regular expression each stays cheap. Filters that this version cannot read, since a later one wrote
 * them, match everything: an event that is too much does less harm than one that is missing.
 */
export function storedFilters(
  filters: readonly Filter[] | null,
  mode: FilterMode,
  onUnreadable: () => void,
): FilterSet | null {
  if (filters === null || filters.length === 0) return null;
  let set: FilterSet | undefined;
  const compiled = (): FilterSet => {
    if (set !== undefined) return set;
    const result = compileFilters(filters, mode);
    if (!result.ok || result.set === null) {
      onUnreadable();
      set = MATCHES_ALL;
    } else set = result.set;
    return set;
  };
  return { matches: (event) => compiled().matches(event), explain: (event) => compiled().explain(event) };
}

const MATCHES_ALL: FilterSet = { matches: () => true, explain: () => [] };
