/** The one at a place, counting on beyond the end: 7 of 3 is the second. */
export function chosen<T>(all: readonly T[], place: number): T | undefined {
  return all[place % Math.max(1, all.length)];
}
