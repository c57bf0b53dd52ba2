/** What a filter may ask of the value at its path. */
export const FILTER_OPERATORS = [
  'equals',
  'not_equals',
  'greater_than',
  'greater_than_or_equal',
  'less_than',
  'less_than_or_equal',
  'contains',
  'not_contains',
  'starts_with',
  'ends_with',
  'in',
  'not_in',
  'exists',
  'not_exists',
  'matches',
] as const;
export type FilterOperator = (typeof FILTER_OPERATORS)[number];

/** Whether an event must satisfy all filters of a webhook or one of them. */
export const FILTER_MODES = ['all', 'any'] as const;
export type FilterMode = (typeof FILTER_MODES)[number];

/** A filter as the API takes and shows it, and as it is stored. docs/filters.md has the rules. */
export interface Filter {
  readonly field_path: string;
  readonly operator: FilterOperator;
  /** Absent for `exists` and `not_exists`. */
  readonly value?: unknown;
  readonly case_sensitive: boolean;
}

/** Filters of one webhook. */
export const FILTERS_MAX = 20;

/** Bytes of a webhook's filters as JSON: they are in memory, for each of its webhooks that a tenant has. */
export const FILTERS_BYTES_MAX = 16_384;

/** Values of `in` and `not_in`. */
export const VALUES_MAX = 100;

/** Characters of a text in `value`. */
export const VALUE_LENGTH_MAX = 1_024;
