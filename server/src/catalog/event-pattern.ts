import { isEventTypeName } from './event-type-name.ts';

/** What a webhook may subscribe to: one type, all types, or all types below a name (`lead.*`: `lead.created`…). */
export type EventPattern = { kind: 'all' } | { kind: 'exact'; name: string } | { kind: 'prefix'; prefix: string };

/** Undefined for a text that is no pattern. The prefix of `lead.*` is `lead.`. */
export function parseEventPattern(text: string): EventPattern | undefined {
  if (text === '*') return { kind: 'all' };
  if (!text.endsWith('.*')) return isEventTypeName(text) ? { kind: 'exact', name: text } : undefined;
  return isEventTypeName(text.slice(0, -2)) ? { kind: 'prefix', prefix: text.slice(0, -1) } : undefined;
}

export function matchesEventPattern(pattern: EventPattern, name: string): boolean {
  switch (pattern.kind) {
    case 'all':
      return true;
    case 'exact':
      return pattern.name === name;
    case 'prefix':
      return name.startsWith(pattern.prefix);
  }
}
