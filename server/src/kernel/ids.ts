import { TypeID } from 'typeid-js';
import { v7, validate } from 'uuid';
import type { Clock } from './clock.ts';
import { systemClock } from './clock.ts';

/**
 * Ids are UUIDv7 in the database and TypeIDs (`evt_01h…`, https://github.com/jetify-com/typeid) in the API.
 * The prefix says what the id names and is no part of what is stored.
 */
export const ID_PREFIXES = {
  tenant: 'tnt',
  environment: 'env',
  apiKey: 'key',
  webhook: 'whk',
  event: 'evt',
  delivery: 'dlv',
  attempt: 'att',
  eventType: 'ety',
} as const;

export type IdKind = keyof typeof ID_PREFIXES;

export type IdSource = () => string;

/** Returns a source of UUIDv7s that grow within a process, also within one millisecond. */
export function createIdSource(clock: Clock = systemClock): IdSource {
  let sequence = Math.floor(Math.random() * 0x0fff_ffff);
  let lastMs = 0;
  return () => {
    const now = clock.now();
    // A clock that steps back must not make ids that sort before those already given.
    if (now > lastMs) lastMs = now;
    sequence = (sequence + 1) >>> 0;
    if (sequence === 0) lastMs += 1;
    return v7({ msecs: lastMs, seq: sequence });
  };
}

/** `formatId('event', '0190…')` is `evt_01j…`. */
export function formatId(kind: IdKind, uuid: string): string {
  return TypeID.fromUUID(ID_PREFIXES[kind], uuid).toString();
}

/** The UUID inside a TypeID, or undefined for anything that is not an id of this kind. */
export function parseId(kind: IdKind, text: string): string | undefined {
  const prefix = ID_PREFIXES[kind];
  if (text.length !== prefix.length + 27) return undefined;
  try {
    const uuid = TypeID.fromString(text, prefix).toUUID();
    return validate(uuid) ? uuid : undefined;
  } catch {
    return undefined;
  }
}

/** Milliseconds since the epoch at which a UUIDv7 was made (RFC 9562, section 5.7). */
export function timeOfId(uuid: string): number {
  return Number.parseInt(uuid.slice(0, 8) + uuid.slice(9, 13), 16);
}

/** The smallest UUIDv7-ordered id of a millisecond: a lower bound for range queries on ids. */
export function firstIdAt(timeMs: number): string {
  const hex = Math.max(0, Math.floor(timeMs)).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-0000-0000-000000000000`;
}
