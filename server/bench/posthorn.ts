import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { descendantsOf } from './processor-time.ts';

/** A Posthorn of the bench's own: a new data folder, the embedded database, the settings of production. */
export interface Posthorn {
  pid: number;
  port: number;
  /** Headers that publish to the bench's tenant. */
  headers: Readonly<Record<string, string>>;
  /** The last lines that it wrote. */
  output: readonly string[];
  /**
   * Waits until it is ready, makes the bench's tenant, and returns the time from starting the process to ready.
   *
   * @throws Error with the server's last output when it is not ready in a minute.
   */
  ready(): Promise<{ firstStartMs: number }>;
  /** Makes webhooks number 0 to `count - 1` for one event type, which post to `/w/0`... of the sink; returns their ids. */
  subscribe(eventType: string, sinkPort: number, count: number): Promise<string[]>;
  /** What Posthorn itself has on record for a webhook. */
  records(webhookId: string): Promise<DeliveryRecords>;
  /** Stops it and removes the data folder. */
  stop(): Promise<void>;
}

export interface DeliveryRecords {
  successfulDeliveries: number;
  failedAttempts: number;
}

const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 40_000;
const LINES_KEPT = 30;

/** @param file the server's main module. */
export async function startPosthorn(file: string): Promise<Posthorn> {
  const port = await freePort();
  const folder = mkdtempSync(path.join(tmpdir(), 'posthorn-bench-'));
  const operatorKey = randomBytes(24).toString('hex');
  const startMs = performance.now();
  const child = spawn(process.execPath, [file, 'serve'], {
    env: {
      ...ownEnvironment(),
      POSTHORN_PORT: String(port),
      POSTHORN_DATA_DIR: folder,
      POSTHORN_OPERATOR_KEY: operatorKey,
      POSTHORN_ENCRYPTION_KEY: randomBytes(32).toString('hex'),
      POSTHORN_EGRESS_ALLOW: '127.0.0.0/8',
      POSTHORN_LOG_LEVEL: 'warn',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output: string[] = [];
  let stopping = false;
  const gone = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => {
      if (!stopping) console.error(`The server ended by itself (${code ?? signal}):\n${output.join('\n')}`);
      resolve();
    });
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output.push(...text.split('\n').filter((line) => line !== ''));
      output.splice(0, output.length - LINES_KEPT);
    });
  }
  const origin = `http://127.0.0.1:${port}`;
  const operatorHeaders = { Authorization: `Bearer ${operatorKey}` };
  const headers = { ...operatorHeaders, 'X-Tenant-Id': 'bench' };

  return {
    pid: child.pid ?? 0,
    port,
    headers,
    output,
    async ready() {
      await awaitReady();
      const firstStartMs = performance.now() - startMs;
      const settings = { allow_unknown_event_types: true };
      await api('POST', '/api/v1/tenants', { name: 'Bench', slug: 'bench', settings }, operatorHeaders);
      return { firstStartMs };
    },
    async subscribe(eventType, sinkPort, count) {
      const ids: string[] = [];
      for (let webhook = 0; webhook < count; webhook++) {
        const url = `http://127.0.0.1:${sinkPort}/w/${webhook}`;
        const created = await api('POST', '/api/v1/webhooks', {
          name: `${eventType} ${webhook}`,
          url,
          events: [eventType],
        });
        ids.push(String(created.id));
      }
      return ids;
    },
    async records(webhookId) {
      const stats = await api('GET', `/api/v1/webhooks/${webhookId}/stats`);
      return {
        successfulDeliveries: Number(stats.successful_deliveries),
        failedAttempts: Number(stats.failed_attempts),
      };
    },
    stop,
  };

  async function awaitReady(): Promise<void> {
    const lastMs = performance.now() + READY_MS_MAX;
    while (performance.now() < lastMs) {
      if (child.exitCode !== null) throw new Error(`${file} did not start.`);
      const status = await fetch(`${origin}/health/ready`).then(
        async (response) => {
          await response.body?.cancel();
          return response.status;
        },
        // Nobody listens yet.
        () => 0,
      );
      if (status === 200) return;
      await sleep(25);
    }
    throw new Error(`${file} is not ready after ${READY_MS_MAX / 1000} s:\n${output.join('\n')}`);
  }

  async function api(
    method: string,
    where: string,
    body?: unknown,
    as: Readonly<Record<string, string>> = headers,
  ): Promise<Record<string, unknown>> {
    const response = await fetch(origin + where, {
      method,
      ...(body === undefined
        ? { headers: as }
        : { headers: { ...as, 'Content-Type': 'application/json' }, body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${where} answers ${response.status} ${text.slice(0, 300)}`);
    return JSON.parse(text) as Record<string, unknown>;
  }

  async function stop(): Promise<void> {
    stopping = true;
    child.kill('SIGTERM');
    const late = setTimeout(() => {
      // PostgreSQL's processes are its children, and could not be found once it is gone.
      const family = descendantsOf(child.pid ?? 0);
      child.kill('SIGKILL');
      for (const pid of family) endQuietly(pid);
    }, STOP_MS_MAX);
    await gone;
    clearTimeout(late);
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

/** The caller's environment without what would point Posthorn at another database or change its settings. */
function ownEnvironment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env);
  return Object.fromEntries(entries.filter(([name]) => name !== 'DATABASE_URL' && !name.startsWith('POSTHORN_')));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('No free port.');
  return address.port;
}

function endQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
