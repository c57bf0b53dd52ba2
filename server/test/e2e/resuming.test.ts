import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
beforeEach(async () => {
  cluster = await startCluster(1);
  receiver = await startReceiver();
});
afterEach(async () => {
  await cluster.stop();
  await receiver.stop();
});

const setStatus = async (webhook: { id: string }, action: 'pause' | 'resume') => {
  const answer = await cluster.first.call('POST', `/api/v1/webhooks/${webhook.id}/${action}`);
  expect([answer.status, answer.body.status]).toEqual([200, action === 'pause' ? 'paused' : 'active']);
};

const events = (count: number) => Array.from({ length: count }, (_, n) => ({ data: { n }, ordering_key: `k${n}` }));

/** Requests at once that a backlog begins with; each that succeeds allows another one. */
const AT_FIRST = 4;
const AT_ONCE_MAX = 64;

/** Counts the requests under way from now on, and gives the numbers of those that were more than the ramp allows. */
function watchRamp(): { most: number; tooMany: number[] } {
  const seen = { most: 0, tooMany: [] as number[] };
  let [underWay, done] = [0, 0];
  receiver.onRequest = (request) => {
    underWay += 1;
    seen.most = Math.max(seen.most, underWay);
    if (underWay > Math.min(AT_ONCE_MAX, AT_FIRST + done)) seen.tooMany.push(underWay);
    setTimeout(() => {
      underWay -= 1;
      done += 1;
      request.respond(200);
    }, 20);
  };
  return seen;
}

/** Writes down how many held rows each statement makes due. */
async function countReleases(): Promise<() => Promise<number[]>> {
  await cluster.query('CREATE TABLE releases (n serial, released int)');
  await cluster.query(`
    CREATE FUNCTION note_release() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO releases (released) SELECT count(*) FROM before WHERE status = 'held' HAVING count(*) > 0;
      RETURN NULL;
    END $$`);
  await cluster.query(`
    CREATE TRIGGER note_release AFTER UPDATE ON deliveries REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION note_release()`);
  return async () => (await cluster.query('SELECT released FROM releases ORDER BY n')).map(({ released }) => released);
}

test('a webhook that is resumed gets thousands of held events, released in parts, with few requests at once first', async () => {
  const webhook = await cluster.webhook({ url: receiver.url });
  await setStatus(webhook, 'pause');
  await cluster.publishAll(events(5_000));
  expect(await cluster.statuses()).toEqual({ held: 5_000 });
  const releases = await countReleases();
  const seen = watchRamp();
  await setStatus(webhook, 'resume');
  await cluster.allBecome('delivered', 20_000);
  expect(receiver.requests).toHaveLength(5_000);
  expect(new Set(receiver.requests.map(({ headers }) => headers['webhook-id'])).size).toBe(5_000);
  expect(seen.tooMany).toEqual([]);
  expect(seen.most).toBeGreaterThan(4 * AT_FIRST);
  const released = await releases();
  expect(Math.max(...released)).toBeLessThanOrEqual(2_000);
  expect(released.reduce((sum, each) => sum + each)).toBe(5_000);
});

test('a webhook that was sent to all the time begins with few requests at once after the shortest pause', async () => {
  // Its lane stays in memory while it is paused, with what the receiver took before.
  const webhook = await cluster.webhook({ url: receiver.url, ordering: { enabled: true } });
  await cluster.publishAll(events(300));
  await cluster.allBecome('delivered');
  await setStatus(webhook, 'pause');
  await cluster.publishAll(events(300));
  const seen = watchRamp();
  await setStatus(webhook, 'resume');
  await cluster.allBecome('delivered');
  expect(seen.tooMany).toEqual([]);
  expect(seen.most).toBeGreaterThan(4 * AT_FIRST);
  expect(receiver.requests).toHaveLength(600);
});
