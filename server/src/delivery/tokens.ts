import type { Clock } from '../kernel/clock.ts';
import { RecentEntries } from '../kernel/recent-entries.ts';
import type { Credentials } from '../webhooks/auth/credentials.ts';
import type { OAuth2Settings } from '../webhooks/auth/settings.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import type { AttemptResult, Failure } from './outcome.ts';
import type { Sender } from './sender.ts';

/** An access token of a webhook. */
export interface Token {
  readonly value: string;
  readonly fingerprint: string;
  /** Times are of the monotonic clock. */
  readonly obtainedAtMs: number;
  /** From then on another one is fetched while this one is used. */
  readonly renewAtMs: number;
  readonly expiresAtMs: number;
  /** The receiver has answered a request with it with something else than 401. */
  accepted: boolean;
}

/** What came of asking for a token: an attempt that needed it fails as the request for it did. */
export type TokenResult =
  | { ok: true; token: Token }
  | { ok: false; fingerprint: string; failure: Failure; durationMs: number };

export interface TokensOptions {
  /** Requests for tokens go through it as deliveries do: by the egress guard, without redirects. */
  sender: Sender;
  clock: Clock;
}

interface Entry {
  fingerprint: string;
  token: Token | undefined;
  fetching: Promise<TokenResult> | undefined;
}

/** Webhooks of which a token is kept. Those not used lately make room. */
const ENTRIES_MAX = 10_000;

const TIMEOUT_MS = 10_000;

/** Where the answer does not say how long the token is good (RFC 6749, section 5.1, leaves that open). */
const LIFETIME_SECONDS = 300;
const LIFETIME_SECONDS_MAX = 86_400;

/** A token is renewed when a fifth of its time is left, or this long before its end if that is later. */
const EARLY_MS_MAX = 60_000;
const EARLY_SHARE = 0.2;

/** How long a token that was never accepted is kept although it is refused: each refusal would ask for another. */
const REFUSED_MS = 60_000;

const TOKEN_CHARACTERS_MAX = 8_192;

/**
 * Access tokens of webhooks with `oauth2_client_credentials`, in memory on this node: fetched when first needed and early
 * before they expire, once for all deliveries that wait for one.
 */
export class Tokens {
  readonly #options: TokensOptions;
  readonly #entries = new RecentEntries<Entry>(ENTRIES_MAX);

  constructor(options: TokensOptions) {
    this.#options = options;
  }

  /**
   * The token that a request needs; undefined: it needs none. A promise, which never fails, when it has to be fetched
   * first. `asked`: what came of asking, which is not done twice.
   */
  forRequest(target: WebhookTarget, asked: TokenResult | undefined): TokenResult | undefined | Promise<TokenResult> {
    const { credentials } = target;
    if (credentials.kind !== 'oauth2') return undefined;
    const fingerprint = asked?.ok === true ? asked.token.fingerprint : asked?.fingerprint;
    if (asked !== undefined && fingerprint === credentials.fingerprint) return asked;
    const found = this.find(target, credentials);
    return found instanceof Promise ? found : { ok: true, token: found };
  }

  /** The webhook's token; a promise, which never fails, when it has to be fetched first. */
  find(target: WebhookTarget, credentials: OAuth2Credentials): Token | Promise<TokenResult> {
    const entry = this.#entryOf(target, credentials);
    const { token } = entry;
    const now = this.#options.clock.monotonicMs();
    if (token !== undefined && now < token.expiresAtMs) {
      if (now >= token.renewAtMs) void this.#fetch(entry, target, credentials);
      return token;
    }
    return this.#fetch(entry, target, credentials);
  }

  /**
   * The receiver answered a request with this token. Returns true when it refused one that it had accepted before: the
   * token has ended early, and the delivery is worth another try with a new one.
   */
  answered(target: WebhookTarget, token: Token, status: number): boolean {
    if (status !== 401) {
      token.accepted = true;
      return false;
    }
    const entry = this.#entries.peek(target.id);
    const isOld = this.#options.clock.monotonicMs() - token.obtainedAtMs >= REFUSED_MS;
    if (entry?.token === token && (token.accepted || isOld)) entry.token = undefined;
    return token.accepted;
  }

  #entryOf(target: WebhookTarget, { fingerprint }: OAuth2Credentials): Entry {
    const known = this.#entries.get(target.id);
    if (known?.fingerprint === fingerprint) return known;
    const entry: Entry = { fingerprint, token: undefined, fetching: undefined };
    this.#entries.set(target.id, entry);
    return entry;
  }

  #fetch(entry: Entry, target: WebhookTarget, { settings }: OAuth2Credentials): Promise<TokenResult> {
    entry.fetching ??= new Promise<TokenResult>((settle) => {
      const { sender } = this.#options;
      const { fingerprint } = entry;
      sender.send(tokenRequest(settings, target.userAgent), (result, durationMs) => {
        entry.fetching = undefined;
        const read = readAnswer(result);
        if (!read.ok) {
          settle({ ok: false, fingerprint, failure: read.failure, durationMs });
          return;
        }
        entry.token = this.#tokenOf(read, fingerprint);
        settle({ ok: true, token: entry.token });
      });
    });
    return entry.fetching;
  }

  #tokenOf({ value, lifetimeMs }: Answer, fingerprint: string): Token {
    const now = this.#options.clock.monotonicMs();
    const expiresAtMs = now + lifetimeMs;
    const renewAtMs = expiresAtMs - Math.min(EARLY_MS_MAX, lifetimeMs * EARLY_SHARE);
    return { value, fingerprint, obtainedAtMs: now, renewAtMs, expiresAtMs, accepted: false };
  }
}

type OAuth2Credentials = Extract<Credentials, { kind: 'oauth2' }>;

/** RFC 6749, sections 4.4.2 and 2.3.1. The certificate is always verified: `verify_tls` is of the receiver. */
function tokenRequest(settings: OAuth2Settings, userAgent: string) {
  const { client_id: id, client_secret: secret, scope, audience } = settings;
  const form = new URLSearchParams({ grant_type: 'client_credentials' });
  if (scope !== undefined) form.set('scope', scope);
  if (audience !== undefined) form.set('audience', audience);
  const headers = ['user-agent', userAgent, 'accept', 'application/json'];
  headers.push('content-type', 'application/x-www-form-urlencoded');
  if (settings.client_authentication === 'basic') {
    const pair = `${formEncoded(id)}:${formEncoded(secret)}`;
    headers.push('authorization', `Basic ${Buffer.from(pair).toString('base64')}`);
  } else {
    form.set('client_id', id);
    form.set('client_secret', secret);
  }
  const body = Buffer.from(form.toString());
  return { url: new URL(settings.token_url), method: 'POST', headers, body, timeoutMs: TIMEOUT_MS, verifyTls: true };
}

function formEncoded(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1);
}

interface Answer {
  value: string;
  lifetimeMs: number;
}

/** RFC 6749, section 5.1. What the answer says is not repeated: it may hold a token. */
function readAnswer(result: AttemptResult): ({ ok: true } & Answer) | { ok: false; failure: Failure } {
  if (result.kind === 'failed') {
    return { ok: false, failure: { ...result, message: `No access token: ${result.message}` } };
  }
  if (result.status !== 200) return refused(`The token URL answered ${result.status}.`);
  const answer = parsed(result.body);
  const { access_token: value, token_type: type, expires_in: seconds } = answer;
  if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value) || value.length > TOKEN_CHARACTERS_MAX) {
    return refused('The token URL answered with no access token.');
  }
  if (type !== undefined && String(type).toLowerCase() !== 'bearer') {
    return refused('The token URL answered with a token that is no bearer token.');
  }
  const given = Number(seconds);
  const lifetime = seconds != null && given > 0 ? Math.min(given, LIFETIME_SECONDS_MAX) : LIFETIME_SECONDS;
  return { ok: true, value, lifetimeMs: lifetime * 1000 };
}

function refused(message: string): { ok: false; failure: Failure } {
  return { ok: false, failure: { kind: 'failed', errorClass: 'response', message } };
}

function parsed(body: Buffer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body.toString());
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
