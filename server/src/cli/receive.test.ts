import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { Webhook } from 'standardwebhooks';
import { request } from 'undici';
import { afterEach, expect, test } from 'vitest';
import { runCli } from './program.ts';
import { type ScriptedTerminal, scriptedTerminal } from './scripted-terminal.ts';

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const BODY = '{"type":"message.new","data":{"total":1.0,"text":"Grüße"}}';

let terminal: ScriptedTerminal;
let finished: Promise<number>;

afterEach(async () => {
  terminal.sendSignal('SIGINT');
  await finished;
});

/** Starts `posthorn receive`, and gives the URL that it listens on. */
async function startReceiving(...args: string[]): Promise<string> {
  terminal = scriptedTerminal({ env: { POSTHORN_DATA_DIR: '/nonexistent' } });
  finished = runCli(['receive', ...args], terminal);
  const output = await terminal.waitFor('Listening on');
  return /http:\S+(?=\. Ctrl)/.exec(output)?.[0] ?? '';
}

/** The headers of a delivery, signed as Standard Webhooks prescribe by the standard's own library. */
function signedHeaders(body: string, secret = SECRET, at = new Date()): Record<string, string> {
  return {
    'webhook-id': 'msg_1',
    'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
    'webhook-signature': new Webhook(secret).sign('msg_1', at, body),
    'x-webhook-event': 'message.new',
    'x-webhook-attempt': '2',
    'content-type': 'application/json',
  };
}

function hmac(algorithm: 'sha256' | 'sha1', body: string): string {
  return createHmac(algorithm, SECRET).update(body).digest('hex');
}

async function post(url: string, headers: Record<string, string>, body: string | Buffer = BODY): Promise<number> {
  // A connection of its own each time: the receivers of several tests take the same port in turn.
  const response = await request(url, { method: 'POST', headers, body, reset: true });
  await response.body.dump();
  return response.statusCode;
}

test('a delivery is shown with event, id, attempt, verdict and its body as it was spelled', async () => {
  const url = await startReceiving('--secret', SECRET);
  expect(await post(url, signedHeaders(BODY))).toBe(200);
  const output = await terminal.waitFor('"total"');
  expect(output).toMatch(/\d\d:\d\d:\d\d\.\d{3} {2}message\.new {2}msg_1 {2}attempt 2 {2}answered 200\n/);
  expect(output).toContain('  signature valid (Standard Webhooks)\n');
  expect(output).toContain('      "total": 1.0,\n      "text": "Grüße"\n');
});

test.each([
  ['a changed body', signedHeaders(BODY), `${BODY} `, 'it does not match the body and the secret'],
  ['another secret', signedHeaders(BODY, `whsec_${Buffer.alloc(32, 8).toString('base64')}`), BODY, 'it does not match'],
  ['an old request', signedHeaders(BODY, SECRET, new Date(Date.now() - 600_000)), BODY, 'more than five minutes ago'],
  [
    'a future request',
    signedHeaders(BODY, SECRET, new Date(Date.now() + 600_000)),
    BODY,
    'more than five minutes ahead',
  ],
  ['a changed id', { ...signedHeaders(BODY), 'webhook-id': 'msg_2' }, BODY, 'it does not match'],
  ['no time', { ...signedHeaders(BODY), 'webhook-timestamp': 'now' }, BODY, 'not a number of seconds'],
])('%s is told to be not valid', async (_, headers, body, reason) => {
  const url = await startReceiving('--secret', SECRET);
  await post(url, headers, body);
  const output = await terminal.waitFor('message.new');
  expect(output).toContain('signature NOT VALID (Standard Webhooks): ');
  expect(output).toContain(reason);
});

test.each([
  ['hex', hmac('sha256', BODY), 'valid (X-Webhook-Signature, HMAC-SHA256 as hex)'],
  ['sha256=', `sha256=${hmac('sha256', BODY)}`, 'valid (X-Webhook-Signature, HMAC-SHA256 as sha256=<hex>)'],
  ['sha1=', `sha1=${hmac('sha1', BODY)}`, 'valid (X-Webhook-Signature, HMAC-SHA1 as sha1=<hex>)'],
  ['wrong', hmac('sha256', 'other'), 'NOT VALID (X-Webhook-Signature'],
])('the X-Webhook-Signature of the form %s is checked', async (_, signature, verdict) => {
  const url = await startReceiving('--secret', SECRET);
  await post(url, { 'x-webhook-signature': signature });
  expect(await terminal.waitFor('signature')).toContain(`  signature ${verdict}`);
});

test('both signatures of one delivery get a verdict each, and the end counts only what is fully valid', async () => {
  const url = await startReceiving('--secret', SECRET);
  await post(url, { ...signedHeaders(BODY), 'x-webhook-signature': hmac('sha256', BODY) });
  await post(url, { ...signedHeaders(BODY), 'x-webhook-signature': hmac('sha256', 'other') });
  terminal.sendSignal('SIGINT');
  expect(await finished).toBe(0);
  expect(terminal.output()).toContain('Received 2, 1 of them with valid signatures.');
});

test('a signature header that came twice is not valid', async () => {
  const url = await startReceiving('--secret', SECRET);
  const headers = { ...signedHeaders(BODY), 'Content-Length': String(Buffer.byteLength(BODY)), Connection: 'close' };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.end(`POST / HTTP/1.1\r\nHost: x\r\n${lines.join('\r\n')}\r\nwebhook-id: msg_2\r\n\r\n${BODY}`);
  socket.resume();
  expect(await terminal.waitFor('signature')).toContain(
    'NOT VALID (Standard Webhooks): the header webhook-id came twice',
  );
});

test('without a secret, and without a signature, nothing is called valid', async () => {
  const url = await startReceiving('--no-register');
  await post(url, signedHeaders(BODY));
  await terminal.waitFor('signature not checked');
  await post(url, {});
  expect(await terminal.waitFor('signature none')).not.toContain('signature valid');
});

test('escape sequences in headers, path and body do not reach the terminal', async () => {
  const url = await startReceiving('--no-register');
  await post(`${url}%1b[2J`, { 'x-webhook-event': 'a\u009b31mb' }, '\u001b[2J\u001b]0;owned\u0007\r\n\u202efoo');
  await post(url, { 'content-type': 'application/json' }, '{"a":"\u009b2J\u007f"}');
  const output = await terminal.waitFor('"a"');
  expect(output).not.toMatch(/(?!\n)\p{Cc}|\u202e/u);
  expect(output).toContain('\\u001b[2J\\u001b]0;owned\\u0007\n  \\u202efoo');
});

test('a long body is cut at 2048 characters and its size told', async () => {
  const url = await startReceiving('--no-register');
  await post(url, {}, JSON.stringify({ text: 'x'.repeat(100_000) }));
  const output = await terminal.waitFor('(cut; the body has 100011 bytes)');
  expect(output.length).toBeLessThan(3000);
});

test('a body over 16 MB is answered with 413 and not kept', async () => {
  const url = await startReceiving('--no-register');
  const status = await post(url, {}, Buffer.alloc(16_777_217)).catch(() => 413);
  expect(status).toBe(413);
  expect(terminal.output()).not.toContain('answered');
});

test('a compressed body is shown and checked unpacked, and one that is a bomb is refused', async () => {
  const url = await startReceiving('--secret', SECRET);
  await post(url, { ...signedHeaders(BODY), 'content-encoding': 'gzip' }, gzipSync(BODY));
  expect(await terminal.waitFor('"total": 1.0')).toContain('signature valid (Standard Webhooks)');
  const bomb = gzipSync(Buffer.alloc(16_777_217));
  expect(await post(url, { 'content-encoding': 'gzip' }, bomb)).toBe(413);
});

test('a body that only claims to be compressed is shown as it is', async () => {
  const url = await startReceiving('--no-register');
  expect(await post(url, { 'content-encoding': 'gzip' }, 'plain')).toBe(200);
  expect(await terminal.waitFor('plain')).toContain('  plain\n');
});

test('--status is what every request is answered with', async () => {
  const url = await startReceiving('--no-register', '--status', '503');
  expect(await post(url, {})).toBe(503);
});

test('a port that was asked for and is taken is an error; the usual port gives way to another', async () => {
  const url = await startReceiving('--no-register');
  const second = scriptedTerminal();
  const port = new URL(url).port;
  expect(await runCli(['receive', '--no-register', '--port', port], second)).toBe(1);
  expect(second.errors()).toBe(`posthorn: Port ${port} is taken: choose another with --port.\n`);

  const third = scriptedTerminal();
  const thirdFinished = runCli(['receive', '--no-register'], third);
  expect(await third.waitFor('Listening on')).not.toContain(`:${port}/`);
  third.sendSignal('SIGTERM');
  expect(await thirdFinished).toBe(0);
});

test('without a running server it says so and listens all the same', async () => {
  const free = createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const { port } = free.address() as { port: number };
  free.close();
  const url = await startReceiving('--key', 'some-key', '--url', `http://127.0.0.1:${port}`);
  expect(await post(url, signedHeaders(BODY))).toBe(200);
  expect(await terminal.waitFor('message.new')).toContain('signature not checked');
  expect(terminal.errors()).toContain('Not registered as a webhook, only listening. No Posthorn answers at');
});

test('output that nobody reads ends it', async () => {
  await startReceiving('--no-register');
  terminal.closeOutput();
  expect(await finished).toBe(0);
});
