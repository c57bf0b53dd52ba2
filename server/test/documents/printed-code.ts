import { spawnSync } from 'node:child_process';
import * as crypto from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import type { ReceivedRequest } from '../../src/testing/receiver.ts';

/** Runs the verification code that the requirement documents print, on requests that a receiver got. */

/** What a printed Node receiver did with a request. */
export interface PrintedAnswer {
  /** 200 where the printed code ends without an answer, which it does only once the signature is verified. */
  status: number;
  body: unknown;
  /** What it wrote to the console. */
  log: string[];
}

export type PrintedReceiver = (request: Pick<ReceivedRequest, 'headers' | 'body'>) => PrintedAnswer;

/** The Express receiver of isp-communications.md, behind `bodyParser.json()`. Its secret is `your_webhook_secret`. */
export function ispCommunicationsReceiver(): PrintedReceiver {
  return printedReceiver('isp-communications.receiver.js', (body) => JSON.parse(body.toString()), {});
}

/** The Express receiver of support-autoresponder.md, behind `express.raw()`. */
export function supportReceiver(secret: string): PrintedReceiver {
  return printedReceiver('support-autoresponder.receiver.js', (body) => body, { WEBHOOK_SECRET: secret });
}

export const hasPython = spawnSync('python3', ['--version']).status === 0;

/** What the printed `verify_signature(payload, signature, secret)` of a document says of each request. */
export function pythonVerdicts(
  preset: string,
  secret: string,
  requests: readonly Pick<ReceivedRequest, 'headers' | 'body'>[],
): boolean[] {
  const program = [
    'import json, sys',
    'source, secret, requests = json.load(sys.stdin)',
    'printed = {}',
    'exec(source, printed)',
    'print(json.dumps([printed["verify_signature"](body, signature, secret) for body, signature in requests]))',
  ].join('\n');
  const cases = requests.map(({ body, headers }) => [body.toString(), headers['x-webhook-signature']]);
  const input = JSON.stringify([readFileSync(vector(`${preset}.verify.py`), 'utf8'), secret, cases]);
  const { stdout, stderr } = spawnSync('python3', ['-c', program], { input, encoding: 'utf8' });
  if (stderr !== '') throw new Error(stderr);
  return JSON.parse(stdout);
}

/** The request with another body of the same length, as if somebody had changed it on the way. */
export function changed<T extends Pick<ReceivedRequest, 'headers' | 'body'>>(request: T): T {
  const body = Buffer.from(request.body);
  const at = body.lastIndexOf('"') - 1;
  body[at] = body[at] === 0x78 ? 0x79 : 0x78;
  return { ...request, body };
}

const vector = (name: string) => fileURLToPath(new URL(`../vectors/documents/${name}`, import.meta.url));

type Handler = (request: { headers: object; body: unknown }, response: PrintedResponse) => void;

interface PrintedResponse {
  status(code: number): PrintedResponse;
  json(body: unknown): void;
}

/** With just enough of Express around the printed code to catch the handler that it registers. */
function printedReceiver(
  name: string,
  parseBody: (body: Buffer) => unknown,
  globals: Record<string, unknown>,
): PrintedReceiver {
  let log: string[] = [];
  const write = (text: string) => {
    log.push(text);
  };
  const handlers: Handler[] = [];
  const app = {
    use: () => undefined,
    listen: () => undefined,
    post: (_path: string, ...registered: Handler[]) => handlers.push(...registered.slice(-1)),
  };
  const express = Object.assign(() => app, { raw: () => undefined });
  const modules: Record<string, unknown> = { crypto, express, 'body-parser': { json: () => undefined } };
  const console = { log: write, error: write };
  vm.runInNewContext(readFileSync(vector(name), 'utf8'), {
    require: (id: string) => modules[id],
    app,
    express,
    Buffer,
    console,
    ...globals,
  });
  const [handler] = handlers;
  if (handler === undefined) throw new Error(`${name} registered no handler.`);

  return ({ headers, body }) => {
    log = [];
    const answer: PrintedAnswer = { status: 200, body: undefined, log };
    const response: PrintedResponse = {
      status(code) {
        answer.status = code;
        return response;
      },
      json(value) {
        answer.body = value;
      },
    };
    handler({ headers, body: parseBody(body) }, response);
    return answer;
  };
}
