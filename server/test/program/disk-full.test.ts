import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Folder, makeFolder } from './folder.ts';
import { type Ledger, startLedger } from './ledger.ts';
import { type Answer, ENV, startServer } from './server.ts';

/** Room for the cluster (40 MB), some log (16 MB a piece), and not much more. */
const DISK_MB = 128;

/** What the administrator can do without. */
const SPARE_MB = 32;

/** Payloads that fill the disk in a few seconds; PostgreSQL compresses what repeats itself. */
const filling = () => randomBytes(300_000).toString('base64');

let folder: Folder;
let ledger: Ledger;
let mounted = false;

/** A small disk of its own needs the right to mount one. */
function mountDisk(where: string): boolean {
  mkdirSync(where);
  mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MB}m`, 'posthorn-test', where]).status === 0;
  if (mounted) chmodSync(where, 0o711);
  return mounted;
}

beforeAll(async () => {
  folder = makeFolder();
  ledger = await startLedger();
});

afterAll(async () => {
  await folder.stop();
  if (mounted) execFileSync('umount', [folder.dataDir]);
  await folder.remove();
  await ledger.stop();
});

const freeMb = () => {
  const { bavail, bsize } = statfsSync(folder.dataDir);
  return Math.floor((bavail * bsize) / 2 ** 20);
};

test('a full disk refuses events by name and loses none that was accepted; with room again all goes on by itself', async (context) => {
  if (!mountDisk(folder.dataDir)) {
    context.skip('a small disk cannot be mounted here: that takes root, and a container that allows it');
  }
  const spare = path.join(folder.dataDir, 'spare');
  const server = await startServer({ cwd: folder.path, env: { ...ENV, POSTHORN_LOG_LEVEL: 'error' } });
  writeFileSync(spare, Buffer.alloc(SPARE_MB * 2 ** 20));
  const webhook = { name: 'Ledger', url: ledger.url, events: ['*'] };
  expect((await server.call('POST', '/api/v1/webhooks', webhook)).status).toBe(201);

  const accepted: number[] = [];
  let next = 0;
  const publish = async (text: string): Promise<Answer> => {
    const n = next++;
    const answer = await server.call('POST', '/api/v1/events', { event_type: 'disk.filled', data: { n, text } });
    if (answer.status === 202) accepted.push(n);
    return answer;
  };
  // Some of the last ones are still to be delivered when the disk is full.
  ledger.onArrival = () => ({ status: 200, afterMs: 500 });
  const refused = await eventually(
    () => publish(filling()),
    ({ status, body }) => status !== 202 && body?.error.code === 'storage_full',
    60_000,
  );
  expect(refused).toMatchObject(STORAGE_FULL);
  expect(freeMb()).toBeLessThan(17);
  const ready = await server.call('GET', '/health/ready');
  expect(ready).toMatchObject({ status: 503, body: { checks: { database: 'its disk is full' } } });
  expect((await server.call('GET', '/health/live')).status).toBe(200);
  expect(server.output()).toMatch(/No space left on device.*the disk of the embedded PostgreSQL is full/);

  // The log cannot grow either, and without it PostgreSQL itself ends.
  await eventually(
    () =>
      folder.query("SELECT pg_logical_emit_message(false, 'test', 'x'), pg_switch_wal()").then(
        () => false,
        () => true,
      ),
    (ended) => ended,
  );
  // Started again, it ends at once, or goes round in its recovery: which of the two is a matter of the last bytes.
  await eventually(
    () => folder.query('SELECT 1').catch(({ code }) => code),
    (code) => code === IN_RECOVERY || server.output().includes('the embedded PostgreSQL cannot be started'),
  );

  // It stays so, and what is published meanwhile is refused each time.
  for (let n = 0; n < 5; n++) expect(await publish('small')).toMatchObject(STORAGE_FULL);
  ledger.onArrival = () => ({ status: 200, afterMs: 0 });
  rmSync(spare);
  await eventually(
    () => publish('small'),
    ({ status }) => status === 202,
    60_000,
  );
  await eventually(
    () => server.call('GET', '/health/ready'),
    ({ status }) => status === 200,
  );
  const pending = await eventually(
    () => folder.query("SELECT id, status FROM deliveries WHERE status <> 'delivered' OR lease_node IS NOT NULL"),
    (rows) => rows.length === 0,
    60_000,
  );
  expect(pending).toEqual([]);
  const arrived = new Set(ledger.arrivals.map(({ event }) => event));
  expect(accepted.filter((n) => !arrived.has(n))).toEqual([]);
  const restarts = server.output().match(/cannot be started/g)?.length ?? 0;
  expect(restarts).toBeLessThan(20);
  expect(await server.end('SIGTERM')).toEqual({ code: 0, signal: null });
}, 180_000);

/** `cannot_connect_now` */
const IN_RECOVERY = '57P03';

const STORAGE_FULL = {
  status: 503,
  body: {
    error: {
      code: 'storage_full',
      message: 'The disk of the database is full; nothing was accepted. It goes on by itself when there is room.',
    },
  },
};
