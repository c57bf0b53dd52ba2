import type { Caller } from '../http/caller.ts';

/** A resolved key or token. Everything a request is judged by is here, so that a hit needs no query and no allocation. */
export interface KnownCredential {
  /** Of an API key, whose uses are recorded: its UUID. */
  keyId: string | undefined;
  caller: Caller;
  tenantSlug: string;
  tenantTypeId: string;
  environmentName: string;
  /** Infinity for a key without an end. */
  expiresAtMs: number;
  /** Infinity for what has no use on record. */
  lastUsedMs: number;
}
