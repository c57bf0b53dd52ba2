import { Webhook } from 'standardwebhooks';
import { describe, expect, test } from 'vitest';
import { DEFAULT_SIGNATURE, type SignatureConfig } from './config.ts';
import { generateKeyPair } from './key-pairs.ts';
import { generateSecret } from './secrets.ts';
import { prepareSigner } from './signer.ts';

const ID = 'evt_01h455vb4pex5vsknk084sn02q';
const BODY = Buffer.from('{"type":"lead.created","data":{"name":"José \u2028 😀","n":1.0}}');

/** The public library reads the real clock. */
const nowSeconds = () => Math.floor(Date.now() / 1000);

function headersOf(config: Partial<SignatureConfig>, secrets: string[], privateKeys: string[] = []) {
  const flat = prepareSigner({ ...DEFAULT_SIGNATURE, ...config }, { secrets, privateKeys }).sign(
    ID,
    nowSeconds(),
    BODY,
  );
  const headers: Record<string, string> = {};
  for (let at = 0; at < flat.length; at += 2) headers[flat[at] as string] = flat[at + 1] as string;
  return headers;
}

describe("what is signed satisfies the standard's public library", () => {
  test('with a whsec_ secret', () => {
    const secret = generateSecret();
    expect(new Webhook(secret).verify(BODY, headersOf({}, [secret]))).toEqual(JSON.parse(BODY.toString()));
  });

  test('with any other text as the secret, taken as its UTF-8', () => {
    const headers = headersOf({}, ['salesforce_webhook_secret']);
    expect(new Webhook('salesforce_webhook_secret', { format: 'raw' }).verify(BODY, headers)).toBeDefined();
    const unicode = 'pässwort-漢字';
    const key = new TextEncoder().encode(unicode);
    expect(new Webhook(key, { format: 'raw' }).verify(BODY, headersOf({}, [unicode]))).toBeDefined();
  });

  test('with the old and with the new secret during a rotation, and with no other', () => {
    const [newest, old, stranger] = [generateSecret(), generateSecret(), generateSecret()];
    const headers = headersOf({ asymmetric: true }, [newest, old], [generateKeyPair().privateKey]);
    expect(new Webhook(newest).verify(BODY, headers)).toBeDefined();
    expect(new Webhook(old).verify(BODY, headers)).toBeDefined();
    expect(() => new Webhook(stranger).verify(BODY, headers)).toThrow('No matching signature');
  });

  test('and nothing changed on the way does', () => {
    const secret = generateSecret();
    const headers = headersOf({}, [secret]);
    expect(() => new Webhook(secret).verify(`${BODY} `, headers)).toThrow();
    expect(() => new Webhook(secret).verify(BODY, { ...headers, 'webhook-id': 'evt_other' })).toThrow();
    const later = `${nowSeconds() + 1}`;
    expect(() => new Webhook(secret).verify(BODY, { ...headers, 'webhook-timestamp': later })).toThrow();
  });
});

describe('headers', () => {
  const keys = { secrets: ['a secret of mine'], privateKeys: [generateKeyPair().privateKey] };
  const names = (config: Partial<SignatureConfig>) =>
    prepareSigner({ ...DEFAULT_SIGNATURE, ...config }, keys)
      .sign(ID, 1731705121, BODY)
      .filter((_, at) => at % 2 === 0);
  const standard = ['webhook-id', 'webhook-timestamp', 'webhook-signature'];

  test('are those that the configuration asks for, each once', () => {
    expect(names({})).toEqual(standard);
    expect(names({ standard: false, asymmetric: true })).toEqual(standard);
    expect(names({ asymmetric: true })).toEqual(standard);
    expect(names({ method: 'hmac_sha256' })).toEqual([...standard, 'X-Webhook-Signature']);
    expect(names({ standard: false, method: 'hmac_sha1', header: 'X-Hub-Signature' })).toEqual(['X-Hub-Signature']);
    expect(names({ standard: false })).toEqual([]);
  });

  test('carry both versions of the standard in one value, v1 first', () => {
    const value = prepareSigner({ ...DEFAULT_SIGNATURE, asymmetric: true }, keys).sign(ID, 1731705121, BODY)[5];
    expect(value).toMatch(/^v1,[A-Za-z0-9+/]{43}= v1a,[A-Za-z0-9+/]{86}==$/);
  });

  test('sign the newest secret alone in a legacy header', () => {
    const method = { standard: false, method: 'hmac_sha256_hex' } as const;
    const header = (secrets: string[]) => headersOf(method, secrets)['X-Webhook-Signature'];
    expect(header(['newest one', 'older one'])).toBe(header(['newest one']));
    expect(header(['newest one'])).not.toBe(header(['older one']));
  });

  test('need a timestamp in whole seconds', () => {
    const signer = prepareSigner(DEFAULT_SIGNATURE, keys);
    for (const seconds of [1731705121.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => signer.sign(ID, seconds, BODY)).toThrow(RangeError);
    }
  });
});

test('a signer is not prepared when a key is missing or unreadable, and the error does not hold the key', () => {
  const none = { secrets: [], privateKeys: [] };
  expect(() => prepareSigner(DEFAULT_SIGNATURE, none)).toThrow('needs a secret');
  expect(() => prepareSigner({ ...DEFAULT_SIGNATURE, standard: false }, none)).not.toThrow();
  const broken = { secrets: ['a secret of mine'], privateKeys: ['whsk_c2VjcmV0'] };
  expect(() => prepareSigner({ ...DEFAULT_SIGNATURE, asymmetric: true }, broken)).toThrow(
    /^An ed25519 private key must be "whsk_" and the base64 of 32 or 64 bytes\.$/,
  );
});
