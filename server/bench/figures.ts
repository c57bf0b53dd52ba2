/** Distribution of a latency, in milliseconds. */
export interface Distribution {
  p50: number;
  p95: number;
  p99: number;
  max: number;
}

/** @param values microseconds in any order; they are sorted in place. Undefined when there are none. */
export function distributionOf(values: Float64Array): Distribution | undefined {
  if (values.length === 0) return undefined;
  values.sort();
  return {
    p50: nearestRank(values, 0.5) / 1000,
    p95: nearestRank(values, 0.95) / 1000,
    p99: nearestRank(values, 0.99) / 1000,
    max: nearestRank(values, 1) / 1000,
  };
}

/** The middle value, or the mean of the two middle ones. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}

/** The smallest value that at least this share of all values does not exceed. */
function nearestRank(sorted: Float64Array, share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
