import { execFile, spawn, spawnSync } from 'node:child_process';
import * as crypto from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import vm from 'node:vm';
import type { ReceivedRequest } from '../../src/testing/receiver.ts';

/**
 * Runs the code that the requirement documents print. Libraries that it asks for and that are not here have stand-ins in
 * `stand-ins/`, so that it runs unchanged.
 */

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

/** The Express receiver of isp-communications.md as a program of its own, which is told where it listens. */
export interface RunningReceiver {
  url: string;
  /** What it has printed so far. */
  output(): string;
  stop(): Promise<void>;
}

export async function startIspCommunicationsReceiver(): Promise<RunningReceiver> {
  const program = spawn(
    process.execPath,
    ['--input-type=commonjs', '--eval', printed('isp-communications.receiver.js')],
    {
      cwd: tmpdir(),
      env: { ...process.env, NODE_PATH: standIns('.') },
      stdio: ['ignore', 'pipe', 'ignore', 'ipc'],
    },
  );
  let output = '';
  program.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const [{ port }] = (await once(program, 'message')) as [{ port: number }];
  return {
    url: `http://127.0.0.1:${port}`,
    output: () => output,
    async stop() {
      program.kill();
      await once(program, 'exit');
    },
  };
}

export const hasPython = spawnSync('python3', ['--version']).status === 0;
export const hasCurl = spawnSync('bash', ['-c', 'curl --version']).status === 0;

/** A code block of the documents, as printed. */
export function printed(name: string): string {
  return readFileSync(vector(name), 'utf8');
}

/**
 * Runs the printed curl command that speaks of `about`, with what `fill` says in place of what it leaves open, and gives
 * the answer. A token that the command does not print stands in `.curlrc`, as for a person who types it.
 */
export async function runCurl(
  name: string,
  about: string,
  fill: Record<string, string>,
  token?: string,
): Promise<ReturnType<typeof JSON.parse>> {
  const commands = printed(name).split(/^# .*$/m);
  let command = commands.find((each) => each.includes('curl') && each.includes(about)) ?? '';
  for (const [open, filled] of Object.entries(fill)) {
    if (!command.includes(open)) throw new Error(`${name} does not print ${open}.`);
    command = command.replaceAll(open, filled);
  }
  const home = mkdtempSync(path.join(tmpdir(), 'posthorn-curl-'));
  try {
    const header = token === undefined ? '' : `header = "Authorization: Bearer ${token}"\n`;
    writeFileSync(path.join(home, '.curlrc'), `silent\n${header}`);
    const { stdout } = await promisify(execFile)('bash', ['-c', command], { env: { ...process.env, CURL_HOME: home } });
    return JSON.parse(stdout);
  } finally {
    rmSync(home, { recursive: true });
  }
}

/** What a printed Python block gives a variable. It is written with JSON's `true`, which Python does not know by itself. */
export function pythonValue(name: string, variable: string): Record<string, unknown> {
  const program = [
    'import json, sys',
    'source, variable = json.load(sys.stdin)',
    'printed = {"true": True, "false": False, "null": None}',
    'exec(source, printed)',
    'print(json.dumps(printed[variable]))',
  ].join('\n');
  return runPython(program, [printed(name), variable]);
}

/** What the printed `verify_jwt_token(token, secret)` of call-center.md says: the claims, or null. */
export function pythonClaims(token: string, secret: string): Record<string, unknown> | null {
  const program = [
    'import json, sys',
    'source, token, secret = json.load(sys.stdin)',
    'printed = {}',
    'exec(source, printed)',
    'print(json.dumps(printed["verify_jwt_token"](token, secret)))',
  ].join('\n');
  return runPython(program, [printed('call-center.jwt.py'), token, secret]);
}

function runPython(program: string, input: unknown[]): ReturnType<typeof JSON.parse> {
  const { stdout, stderr } = spawnSync('python3', ['-c', program], {
    input: JSON.stringify(input),
    encoding: 'utf8',
    env: { ...process.env, PYTHONPATH: standIns('python'), PYTHONDONTWRITEBYTECODE: '1' },
  });
  if (stderr !== '') throw new Error(stderr);
  return JSON.parse(stdout);
}

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
  return runPython(program, [printed(`${preset}.verify.py`), secret, cases]);
}

/** The request with another body of the same length, as if somebody had changed it on the way. */
export function changed<T extends Pick<ReceivedRequest, 'headers' | 'body'>>(request: T): T {
  const body = Buffer.from(request.body);
  const at = body.lastIndexOf('"') - 1;
  body[at] = body[at] === 0x78 ? 0x79 : 0x78;
  return { ...request, body };
}

const vector = (name: string) => fileURLToPath(new URL(`../vectors/documents/${name}`, import.meta.url));
const standIns = (name: string) => fileURLToPath(new URL(`stand-ins/${name}`, import.meta.url));

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
  vm.runInNewContext(printed(name), {
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
