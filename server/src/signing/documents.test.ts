import { spawnSync } from 'node:child_process';
import * as crypto from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import { describe, expect, test } from 'vitest';
import { type BodyHmacMethod, DEFAULT_SIGNATURE } from './config.ts';
import { prepareSigner } from './signer.ts';
import { verifyLegacy } from './verify.ts';

/** The code blocks of the requirement documents, as printed there; what they verify must be what we send. */
const vector = (name: string) => fileURLToPath(new URL(`../../test/vectors/documents/${name}`, import.meta.url));

const BODY =
  '{"event":"message.created","timestamp":"2025-08-05T18:00:00.000Z","subject":"José \u2028 😀","n":1.5,"a":[{}]}';

function signatureOf(method: BodyHmacMethod, secret: string, body = BODY): string {
  const signer = prepareSigner(
    { ...DEFAULT_SIGNATURE, standard: false, method },
    { secrets: [secret, 'an older secret'], privateKeys: [] },
  );
  return signer.sign('evt_1', 1731705121, Buffer.from(body))[1] as string;
}

interface Request {
  headers: Record<string, string>;
  body: unknown;
}
type Respond = { status(code: number): Respond; json(body: unknown): void };
type Handler = (request: Request, response: Respond) => void;

/** Runs a printed receiver with just enough of express around it to catch the handler that it registers. */
function receiverOf(name: string, globals: Record<string, unknown>): (request: Request) => number {
  let handler: Handler | undefined;
  const app = {
    use: () => undefined,
    listen: () => undefined,
    post: (_path: string, ...handlers: Handler[]) => {
      handler = handlers.at(-1);
    },
  };
  const express = Object.assign(() => app, { raw: () => undefined });
  const modules: Record<string, unknown> = { crypto, express, 'body-parser': { json: () => undefined } };
  const silent = { log: () => undefined, error: () => undefined };
  const context = { require: (id: string) => modules[id], app, express, Buffer, console: silent, ...globals };
  vm.runInNewContext(readFileSync(vector(name), 'utf8'), context);

  return (request) => {
    let status = 200;
    const response: Respond = {
      status(code) {
        status = code;
        return response;
      },
      json: () => undefined,
    };
    handler?.(request, response);
    return status;
  };
}

const SECRETS = ['your_webhook_secret', 'pässwort-漢字', 'whsec_plJ3nmyCDGBKInavdOK15jsl'];

test('the Node receiver of isp-communications.md accepts our signature and refuses another', () => {
  // It signs JSON.stringify of the parsed body: that is our body when the data was published as JSON.stringify writes it.
  const receive = receiverOf('isp-communications.receiver.js', {});
  const headers = (signature: string) => ({ 'x-webhook-signature': signature, 'x-webhook-event': 'message.created' });
  const body: unknown = JSON.parse(BODY);
  expect(receive({ headers: headers(signatureOf('hmac_sha256_hex', 'your_webhook_secret')), body })).toBe(200);
  expect(receive({ headers: headers(signatureOf('hmac_sha256_hex', 'another secret')), body })).toBe(401);
});

test.each(SECRETS)('the Node receiver of support-autoresponder.md accepts our signature with %s', (secret) => {
  const receive = receiverOf('support-autoresponder.receiver.js', { WEBHOOK_SECRET: secret });
  const request = (signature: string) => ({ headers: { 'x-webhook-signature': signature }, body: Buffer.from(BODY) });
  expect(receive(request(signatureOf('hmac_sha256_hex', secret)))).toBe(200);
  expect(receive(request(signatureOf('hmac_sha256_hex', 'another secret')))).toBe(401);
});

test('we accept the signature that the sender of support-autoresponder.md makes', () => {
  let sent: { headers: Record<string, string>; body: string } | undefined;
  vm.runInNewContext(readFileSync(vector('support-autoresponder.send.js'), 'utf8'), {
    require: () => crypto,
    fetch: (_url: string, init: typeof sent) => {
      sent = init;
    },
    WEBHOOK_SECRET: 'your_webhook_secret',
    webhookData: { event: 'ticket.create', data: { subject: 'Zahlung über 5 €' } },
  });
  const check = (secret: string) =>
    verifyLegacy(sent?.headers ?? {}, Buffer.from(sent?.body ?? ''), secret, {
      method: 'hmac_sha256_hex',
      header: 'X-Webhook-Signature',
    });
  expect(check('your_webhook_secret')).toEqual({ valid: true });
  expect(check('another secret')).toEqual({ valid: false, reason: 'no_matching_signature' });
});

const hasPython = spawnSync('python3', ['--version']).status === 0;

describe.skipIf(!hasPython)(hasPython ? 'in Python' : 'in Python (skipped: python3 is not on the PATH)', () => {
  /** Calls the printed `verify_signature(payload, signature, secret)` for each case. */
  function verdicts(name: string, cases: [payload: string, signature: string, secret: string][]): unknown {
    const program = [
      'import json, sys',
      'source, cases = json.load(sys.stdin)',
      'printed = {}',
      'exec(source, printed)',
      'print(json.dumps([printed["verify_signature"](*case) for case in cases]))',
    ].join('\n');
    const input = JSON.stringify([readFileSync(vector(name), 'utf8'), cases]);
    const { stdout, stderr } = spawnSync('python3', ['-c', program], { input, encoding: 'utf8' });
    expect(stderr).toBe('');
    return JSON.parse(stdout);
  }

  test.each([
    ['isp-communications', 'hmac_sha256_hex'],
    ['call-center', 'hmac_sha256'],
    ['support-autoresponder', 'hmac_sha256_hex'],
  ] as const)('the code of %s.md accepts our %s signature and refuses others', (document, method) => {
    const good = SECRETS.map((secret): [string, string, string] => [BODY, signatureOf(method, secret), secret]);
    const bad: typeof good = [
      [BODY, signatureOf(method, 'another secret'), SECRETS[0] as string],
      [`${BODY} `, signatureOf(method, SECRETS[0] as string), SECRETS[0] as string],
    ];
    expect(verdicts(`${document}.verify.py`, [...good, ...bad])).toEqual([true, true, true, false, false]);
  });
});
