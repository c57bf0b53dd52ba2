import { type CryptoKey, createLocalJWKSet, errors, type JSONWebKeySet } from 'jose';
import { errorCode } from '../../db/pool.ts';
import type { Clock } from '../../kernel/clock.ts';
import { unavailable } from '../../kernel/errors.ts';
import type { Logger } from '../../kernel/logger.ts';

/** A document at a URL, without the risk that the URL leads inside. @throws when it cannot be had. */
export type FetchDocument = (url: URL) => Promise<Buffer>;

/** After so many milliseconds keys are fetched anew: one that its issuer has withdrawn is refused from then on. */
export const FRESH_MS = 600_000;

/** For so many milliseconds after they were fetched keys are used while the URL cannot be reached. */
export const KEPT_MS = 6 * 3_600_000;

/**
 * A URL is asked once in so many milliseconds at most, whatever tokens come: their key id is checked before their
 * signature, so a stranger chooses it.
 */
export const REFETCH_MS = 10_000;

/** Keys that a set may have; one has two or three. */
const KEYS_MAX = 50;

/** Which key signed a token, as its header says. */
export interface KeyChoice {
  algorithm: string;
  keyId: string | undefined;
}

/** The public keys of issuers (RFC 7517), each set fetched when it is first needed. */
export interface KeySets {
  /**
   * The key of an issuer that fits; undefined when there is none, or more than one. A key id that is not known has the
   * keys fetched anew.
   *
   * @throws AppError 503 when the keys cannot be had at all.
   */
  find(issuer: { id: string; url: URL }, choice: KeyChoice): Promise<CryptoKey | undefined>;
  /** Forgets the keys of all other issuers. */
  keepOnly(issuerIds: ReadonlySet<string>): void;
}

export function createKeySets(options: { clock: Clock; logger: Logger; fetchDocument: FetchDocument }): KeySets {
  const { clock, logger, fetchDocument } = options;
  const sets = new Map<string, KeySet>();

  function setOf(issuer: { id: string; url: URL }): KeySet {
    const known = sets.get(issuer.id);
    if (known?.url.href === issuer.url.href) return known;
    const set = { url: issuer.url, keys: undefined, loadedAtMs: -Infinity, askedAtMs: -Infinity, load: undefined };
    sets.set(issuer.id, set);
    return set;
  }

  /** Resolves when the keys are as new as they can be; at once when the URL was asked a moment ago. */
  async function refresh(issuerId: string, set: KeySet): Promise<void> {
    if (set.load === undefined) {
      const nowMs = clock.monotonicMs();
      if (nowMs - set.askedAtMs < REFETCH_MS) return;
      set.askedAtMs = nowMs;
      set.load = fetchDocument(set.url)
        .then((bytes) => {
          set.keys = createLocalJWKSet(readKeySet(bytes));
          set.loadedAtMs = nowMs;
        })
        .catch((error: unknown) => {
          logger.warn({ issuer_id: issuerId, code: errorCode(error) }, 'the keys of a JWT issuer could not be fetched');
        })
        .finally(() => {
          set.load = undefined;
        });
    }
    await set.load;
  }

  return {
    async find(issuer, choice) {
      const set = setOf(issuer);
      if (clock.monotonicMs() - set.loadedAtMs >= FRESH_MS) await refresh(issuer.id, set);
      if (clock.monotonicMs() - set.loadedAtMs >= KEPT_MS) set.keys = undefined;
      let found = await choose(set, choice);
      if (found === 'unknown') {
        await refresh(issuer.id, set);
        found = await choose(set, choice);
      }
      if (set.keys === undefined) throw unavailable('The keys of this token’s issuer cannot be fetched now.', 10);
      return found === 'unknown' ? undefined : found;
    },
    keepOnly(issuerIds) {
      for (const id of sets.keys()) if (!issuerIds.has(id)) sets.delete(id);
    },
  };
}

interface KeySet {
  url: URL;
  keys: ReturnType<typeof createLocalJWKSet> | undefined;
  loadedAtMs: number;
  askedAtMs: number;
  /** A fetch that is under way. */
  load: Promise<void> | undefined;
}

async function choose(set: KeySet, { algorithm, keyId }: KeyChoice): Promise<CryptoKey | 'unknown' | undefined> {
  try {
    return await set.keys?.({ alg: algorithm, ...(keyId !== undefined && { kid: keyId }) });
  } catch (error) {
    return error instanceof errors.JWKSNoMatchingKey ? 'unknown' : undefined;
  }
}

/** @throws Error for what is no key set, or one that is too large. */
function readKeySet(bytes: Buffer): JSONWebKeySet {
  const value: unknown = JSON.parse(bytes.toString());
  const keys = typeof value === 'object' && value !== null && 'keys' in value ? value.keys : undefined;
  if (!Array.isArray(keys) || keys.length > KEYS_MAX) throw new Error('The document is no key set.');
  return { keys };
}
