import { beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../testing/manual-clock.ts';
import type { Credentials } from '../webhooks/auth/credentials.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import type { AttemptResult } from './outcome.ts';
import { type Token, type TokenResult, Tokens } from './tokens.ts';

type OAuth2 = Extract<Credentials, { kind: 'oauth2' }>;

let clock: ManualClock;
let tokens: Tokens;
/** Requests for tokens that were not answered yet. */
let asked: ((result: AttemptResult) => void)[];
beforeEach(() => {
  clock = new ManualClock();
  asked = [];
  const sender = { send: (_: unknown, done: (r: AttemptResult, ms: number) => void) => asked.push((r) => done(r, 5)) };
  tokens = new Tokens({ clock, sender: { ...sender, stop: async () => {} } as never });
});

const target = (id = 'a') => ({ id, userAgent: 'Posthorn/0' }) as WebhookTarget;
const credentials = (fingerprint = 'f'): OAuth2 => ({
  kind: 'oauth2',
  fingerprint,
  settings: {
    type: 'oauth2_client_credentials',
    token_url: 'https://login.example/token',
    client_id: 'a',
    client_secret: 'b',
    client_authentication: 'basic',
  },
});
const answer = (body: object, status = 200): AttemptResult => ({
  kind: 'answered',
  status,
  headers: [],
  body: Buffer.from(JSON.stringify(body)),
  truncated: false,
});
const find = (id?: string, fingerprint?: string) => tokens.find(target(id), credentials(fingerprint));
const give = (value: string, fields: object = {}) => asked.shift()?.(answer({ access_token: value, ...fields }));
/** Gets the first token of a webhook. */
async function first(fields: object = { expires_in: 1_000 }): Promise<Token> {
  const fetching = find();
  give('first', fields);
  const result = await (fetching as Promise<TokenResult>);
  if (!result.ok) throw new Error('There is no token.');
  return result.token;
}
const shown = (found: Token | Promise<TokenResult>) => (found instanceof Promise ? 'fetching' : found.value);

test('all who wait for a token wait for the same request', async () => {
  const waiting = [find(), find(), find()];
  expect(asked).toHaveLength(1);
  give('one');
  for (const result of await Promise.all(waiting)) expect(result).toMatchObject({ ok: true, token: { value: 'one' } });
  expect(shown(find())).toBe('one');
  expect(asked).toEqual([]);
});

test('a token is renewed before it expires, once, while the old one is used', async () => {
  await first();
  clock.advance(939_000);
  expect([shown(find()), asked.length]).toEqual(['first', 0]);
  clock.advance(2_000);
  expect([shown(find()), shown(find()), asked.length]).toEqual(['first', 'first', 1]);
  give('second', { expires_in: 1_000 });
  expect(shown(find())).toBe('second');
});

test('a short-lived one is renewed in the last fifth of its time', async () => {
  await first({ expires_in: 10 });
  clock.advance(7_900);
  expect([shown(find()), asked.length]).toEqual(['first', 0]);
  clock.advance(200);
  expect([shown(find()), asked.length]).toEqual(['first', 1]);
});

test('a renewal that fails is tried again, and once the token has expired its failure counts', async () => {
  await first();
  clock.advance(950_000);
  find();
  asked.shift()?.(answer({}, 503));
  expect([shown(find()), asked.length]).toEqual(['first', 1]);
  clock.advance(50_000);
  const waiting = find();
  expect(shown(waiting)).toBe('fetching');
  asked.shift()?.(answer({}, 503));
  expect(await waiting).toMatchObject({ ok: false, failure: { errorClass: 'response' } });
});

test.each([[undefined], [null], [0], [-1], ['soon']])(
  '%j for its lifetime counts as five minutes',
  async (expires_in) => {
    await first({ expires_in });
    clock.advance(299_000);
    expect(shown(find())).toBe('first');
    clock.advance(1_000);
    expect(shown(find())).toBe('fetching');
  },
);

test('a day is the longest that one is kept', async () => {
  await first({ expires_in: 1e12 });
  clock.advance(86_400_000);
  expect(shown(find())).toBe('fetching');
});

test('other credentials have another token, and so has another webhook', async () => {
  await first();
  expect(shown(find('b'))).toBe('fetching');
  expect(shown(find('a', 'other'))).toBe('fetching');
});

test('one that was accepted and is refused makes room for another; the refusal of a new one does not', async () => {
  const token = await first();
  expect(tokens.answered(target(), token, 401)).toBe(false);
  expect(shown(find())).toBe('first');
  tokens.answered(target(), token, 500);
  expect(tokens.answered(target(), token, 401)).toBe(true);
  expect(shown(find())).toBe('fetching');
  give('second', { expires_in: 1_000 });
  // An answer to a request with the old one says nothing of the new one.
  expect(tokens.answered(target(), token, 401)).toBe(true);
  expect(shown(find())).toBe('second');
});

test('one that was never accepted is given up when it is refused after a minute', async () => {
  const token = await first();
  clock.advance(60_000);
  expect(tokens.answered(target(), token, 401)).toBe(false);
  expect(shown(find())).toBe('fetching');
});

test.each([
  [{}],
  [{ access_token: '' }],
  [{ access_token: 'a b' }],
  [{ access_token: 'a\r\nx: y' }],
  [{ access_token: 7 }],
  [{ access_token: 'x'.repeat(8_193) }],
  [{ access_token: 'a', token_type: 'mac' }],
])('%j is no token', async (body) => {
  const waiting = find();
  asked.shift()?.(answer(body));
  expect(await waiting).toMatchObject({ ok: false, failure: { errorClass: 'response' } });
});
