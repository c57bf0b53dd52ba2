/**
 * A text that two JSON values share exactly when they are equal by JSON Schema's rule (2020-12 core, section 4.2.2):
 * the order of members counts for nothing, `1` and `1.0` are the same.
 *
 * With it `enum` and `uniqueItems` take time in proportion to the data instead of comparing everything with everything.
 */
export function canonicalText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(([name, member]) => `${JSON.stringify(name)}:${canonicalText(member)}`);
  return `{${members.sort().join(',')}}`;
}
