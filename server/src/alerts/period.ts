const UNITS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;

/** Seconds of a time such as `30s`, `5m`, `1h` or `1d`, or of a number of seconds; undefined for anything else. */
export function readPeriod(given: string | number): number | undefined {
  if (typeof given === 'number') return given;
  const match = /^(\d{1,6})([smhd])$/.exec(given);
  return match === null ? undefined : Number(match[1]) * UNITS[match[2] as keyof typeof UNITS];
}

/** In the largest unit of which it is a whole number: 300 is `5m`. */
export function showPeriod(seconds: number): string {
  const [unit, size] =
    (Object.entries(UNITS) as [string, number][]).findLast(([, each]) => seconds > 0 && seconds % each === 0) ??
    (['s', 1] as const);
  return `${seconds / size}${unit}`;
}
