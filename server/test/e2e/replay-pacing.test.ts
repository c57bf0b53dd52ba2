import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

const DEAD = 2_000;
const ANSWER_MS = 250;

let cluster: Cluster;
let receiver: Receiver;
/** When each live event arrived, by path and number; in milliseconds of the monotonic clock. */
let arrivedAtMs: Map<string, number>;
let replayed: number;
/** The receiver gets slower still when half of the replay is done, so that it is under way as long as the test needs it. */
let lasts: boolean;
beforeEach(async () => {
  receiver = await startReceiver();
  [arrivedAtMs, replayed, lasts] = [new Map(), 0, false];
});
afterEach(async () => {
  await cluster.stop();
  await receiver.stop();
});

/** Makes a webhook with dead deliveries, and a receiver that is well again, but slow. */
async function deadDeliveries(): Promise<{ id: string }> {
  receiver.onRequest = (request) => request.respond(500);
  const webhook = await cluster.webhook({
    url: `${receiver.url}/back`,
    events: ['order.paid'],
    retry_count: 0,
    circuit_breaker: { enabled: false },
  });
  await cluster.publishAll(Array.from({ length: DEAD }, (_, n) => ({ data: { dead: n } })));
  await cluster.allBecome('dead', 20_000);
  receiver.onRequest = answerSlowly;
  return webhook;
}

function answerSlowly(request: ReceivedRequest): void {
  const { data } = JSON.parse(request.body.toString());
  if (data.live === undefined) replayed += 1;
  else arrivedAtMs.set(`${request.path} ${data.live}`, performance.now());
  setTimeout(() => request.respond(200), lasts && replayed > DEAD / 2 ? 4 * ANSWER_MS : ANSWER_MS);
}

async function recover(webhook: { id: string }) {
  const body = { since: new Date(Date.now() - 3_600_000).toISOString() };
  const job = await cluster.first.call('POST', `/api/v1/webhooks/${webhook.id}/recover`, body);
  expect([job.status, job.body.estimated_deliveries]).toEqual([202, DEAD]);
  return job.body;
}

const jobNow = async (id: string) => (await cluster.first.call('GET', `/api/v1/replays/${id}`)).body;

const LIVE = 12;

/** What the replay takes at the least, with the 64 requests at once that a webhook may have: 7.8 s. */
const REPLAY_MS_MIN = (DEAD / 64) * ANSWER_MS;
const LIVE_MS_MAX = REPLAY_MS_MIN / 5;

test('while 2,000 deliveries are replayed to a slow receiver, live events go to it and to another at once', async () => {
  cluster = await startCluster(1);
  const webhook = await deadDeliveries();
  await cluster.webhook({ url: `${receiver.url}/other`, events: ['order.sent'] });
  const startMs = performance.now();
  await recover(webhook);
  // Its ramp is over: as many requests of the replay are under way as a webhook may have.
  await eventually(
    async () => replayed,
    (count) => count >= DEAD / 4,
  );
  const latencies: number[] = [];
  lasts = true;
  for (let n = 0; n < LIVE; n += 1) {
    for (const [type, path] of [
      ['order.paid', '/back'],
      ['order.sent', '/other'],
    ] as const) {
      const publishedAtMs = performance.now();
      await cluster.publish({ event_type: type, data: { live: n } });
      const at = await eventually(
        async () => arrivedAtMs.get(`${path} ${n}`),
        (found) => found !== undefined,
      );
      latencies.push((at ?? Number.NaN) - publishedAtMs);
    }
  }
  expect(replayed, 'the replay was under way all the time').toBeLessThan(DEAD);
  expect(Math.max(...latencies)).toBeLessThan(LIVE_MS_MAX);
  lasts = false;
  await cluster.allBecome('delivered', 30_000);
  expect(replayed).toBe(DEAD);
  const replayMs = performance.now() - startMs;
  console.log(`replay: ${Math.round(replayMs)} ms; live: ${Math.round(Math.max(...latencies))} ms at most`);
  expect(replayMs).toBeGreaterThan(REPLAY_MS_MIN);
}, 60_000);

test('a running job that is cancelled adds nothing more, and what it has added is delivered', async () => {
  // With little room in memory the job has to wait for the receiver.
  cluster = await startCluster(1, { maxQueued: 500 });
  const webhook = await deadDeliveries();
  const { id } = await recover(webhook);
  await eventually(
    () => jobNow(id),
    (job) => job.status === 'running' && job.replayed >= 500,
  );
  const cancelled = await cluster.first.call('DELETE', `/api/v1/replays/${id}`);
  expect([cancelled.status, cancelled.body.status]).toEqual([200, 'cancelled']);
  const { replayed: added } = cancelled.body;
  expect(added).toBeLessThan(DEAD);
  expect(await cluster.statuses()).toMatchObject({ dead: DEAD - added });
  await eventually(
    () => cluster.statuses(),
    ({ dead, delivered }) => dead === DEAD - added && delivered === added,
    20_000,
  );
  expect(replayed).toBe(added);
  expect(await jobNow(id)).toEqual(cancelled.body);
}, 60_000);
