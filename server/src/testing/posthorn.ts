import { type RunningPosthorn, startPosthorn } from '../app.ts';
import { type Config, readConfig } from '../config.ts';
import type { Clock } from '../kernel/clock.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';

export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  // A test reads what it expects to be there; a wrong guess fails the test.
  // biome-ignore lint/suspicious/noExplicitAny: the body's shape is what the test is about
  body: any;
}

/** The whole program in this process, on a database of its own, spoken to over HTTP. */
export interface TestPosthorn {
  url: string;
  database: TestDatabase;
  /** With the operator key unless `headers` name another. A text or Buffer body is sent as it is. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Stops the program and starts it again on the same database. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export const OPERATOR_KEY = 'operator-key-of-the-tests';
const ENCRYPTION_KEY = Buffer.alloc(32, 7);

/** `logs`: where the program's log lines go (standard output). */
export async function startTestPosthorn(
  changes: Partial<Config> = {},
  clock?: Clock,
  logs?: { write(line: string): void },
): Promise<TestPosthorn> {
  const database = await createTestDatabase();
  const config: Config = {
    ...readConfig('dev', {}),
    port: 0,
    databaseUrl: database.connectionString,
    operatorKey: OPERATOR_KEY,
    encryptionKey: ENCRYPTION_KEY,
    logLevel: 'silent',
    drainSeconds: 5,
    // Tests try many bad keys from the one address that they have.
    authFailuresPerMinute: 1_000_000,
    ...changes,
  };
  const logger = createLogger(config.logLevel, logs);
  const start = (): Promise<RunningPosthorn> => startPosthorn(config, { logger, ...(clock && { clock }) });
  let running = await start();
  return {
    get url() {
      return running.url;
    },
    database,
    async call(method, path, body, headers = {}) {
      const raw = typeof body === 'string' || Buffer.isBuffer(body);
      const response = await fetch(running.url + path, {
        method,
        headers: {
          authorization: `Bearer ${OPERATOR_KEY}`,
          ...(body !== undefined && { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body !== undefined && { body: raw ? (body as string) : JSON.stringify(body) }),
      });
      // One that does not end by itself is not waited for.
      const endless = response.headers.get('content-type')?.startsWith('text/event-stream') === true;
      if (endless) await response.body?.cancel();
      const text = endless ? '' : await response.text();
      const json = response.headers.get('content-type')?.startsWith('application/json') === true;
      return { status: response.status, headers: response.headers, text, body: json ? JSON.parse(text) : undefined };
    },
    async restart() {
      await running.stop();
      running = await start();
    },
    async stop() {
      await running.stop();
      await database.drop();
    },
  };
}
