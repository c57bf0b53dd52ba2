declare global {
  interface JSON {
    /** https://tc39.es/proposal-json-parse-with-source: what `stringify` writes as it is. TypeScript does not know it yet. */
    rawJSON(text: string): unknown;
  }
}

/** Parses JSON so that `JSON.stringify` writes its numbers as they were spelled: `1.0`, or one of thirty digits. */
export function parseExactly(text: string): unknown {
  const keepSpelling = (_name: string, value: unknown, context: { source: string }) =>
    typeof value === 'number' ? JSON.rawJSON(context.source) : value;
  return JSON.parse(text, keepSpelling as (name: string, value: unknown) => unknown);
}
