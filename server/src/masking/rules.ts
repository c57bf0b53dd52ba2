/** What the detectors find, wherever it stands. */
export const DETECTORS = ['email', 'phone', 'card'] as const;
export type Detector = (typeof DETECTORS)[number];

/** What a tenant wants masked beside credentials. docs/masking.md has the grammar and the forms. */
export interface MaskingRules {
  /** Where masked values stand in the data of events, such as `customer.email` or `items[*].card`. */
  paths: readonly string[];
  detectors: readonly Detector[];
  /** Names of members whose values are masked at any depth, beside those that are taken for credentials. */
  names: readonly string[];
  /** Names that are not credentials here, although they look like it. */
  except_names: readonly string[];
}

/** A tenant that sets nothing: credentials are masked, and nothing else. */
export const DEFAULT_RULES: MaskingRules = { paths: [], detectors: [], names: [], except_names: [] };

/** Bounds of a tenant's rules. They bound what a look at a page costs. */
export const PATHS_MAX = 50;
export const PATH_LENGTH_MAX = 256;
export const NAMES_MAX = 100;
export const NAME_LENGTH_MAX = 100;

/** Stands for a value that is hidden whole. */
export const MASK = '***';

/** The mask of a whole value, which is never longer than the value. */
export function maskOf(length: number): string {
  return length >= MASK.length ? MASK : MASK.slice(0, length);
}
