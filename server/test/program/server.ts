import { type Program, type ProgramOptions, runProgram } from './program.ts';

/** A running `posthorn dev` or `posthorn serve`, spoken to over HTTP. */
export interface Server extends Program {
  url: string;
  /** From the start of the process until it was ready. */
  startMs: number;
  /** With `OPERATOR_KEY` unless the headers name another. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
}

export interface Answer {
  status: number;
  text: string;
  // A test reads what it expects to be there; a wrong guess fails the test.
  // biome-ignore lint/suspicious/noExplicitAny: the body's shape is what the test is about
  body: any;
}

export const OPERATOR_KEY = 'operator-key-of-the-tests';

/** Settings for tests that are not about the settings: a free port, and a known key. */
export const ENV = { POSTHORN_PORT: '0', POSTHORN_OPERATOR_KEY: OPERATOR_KEY, POSTHORN_DRAIN_SECONDS: '10' };

/** Starts it and resolves when it says that it is ready. */
export async function startServer(
  options: ProgramOptions & { mode?: 'dev' | 'serve'; args?: string[] } = {},
): Promise<Server> {
  const mode = options.mode ?? 'dev';
  const startedAtMs = performance.now();
  const program = runProgram([mode, ...(options.args ?? [])], { ...options, env: options.env ?? ENV });
  const [, url = ''] = await program.waitFor(mode === 'dev' ? BANNER : READY_LINE);
  return {
    ...program,
    url,
    startMs: performance.now() - startedAtMs,
    call: (method, path, body, headers) => call(url + path, method, body, headers),
  };
}

/** To its last line, so that a test can read all of it. */
const BANNER = /\n {2}API {11}(http:\/\/\S+)\/api\/v1\n[\s\S]+-d '.+'\n/;
const READY_LINE = /"url":"(http:[^"]+)".*"msg":"Posthorn is ready"/;

async function call(url: string, method: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(url, {
    method,
    headers: {
      authorization: `Bearer ${OPERATOR_KEY}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const json = response.headers.get('content-type')?.includes('json') === true;
  return { status: response.status, text, body: json ? JSON.parse(text) : undefined };
}
