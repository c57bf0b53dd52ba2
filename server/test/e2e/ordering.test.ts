import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { formatId } from '../../src/kernel/ids.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
beforeAll(async () => {
  cluster = await startCluster(2);
});
afterAll(() => cluster.stop());
beforeEach(async () => {
  receiver = await startReceiver();
});
afterEach(async () => {
  await cluster.deleteWebhooks();
  await receiver.stop();
  await cluster.query('TRUNCATE deliveries, events, attempts, dead_letters');
});

/** Failed attempts are repeated at once, and often enough for any luck. */
const AT_ONCE = { max_attempts: 30, initial_delay_seconds: 0, max_delay_seconds: 0, jitter: 0 };
const PATIENT = { failure_rate: 1, minimum_requests: 10_000 };

const ordered = (fields: object = {}) =>
  cluster.webhook({
    url: receiver.url,
    ordering: { enabled: true, key_path: 'customer.id' },
    retry_policy: AT_ONCE,
    circuit_breaker: PATIENT,
    ...fields,
  });

interface Sent {
  key: string;
  n: number;
}

const sentOf = (request: ReceivedRequest): Sent => {
  const { data } = JSON.parse(request.body.toString());
  return { key: data.customer?.id ?? '', n: data.n };
};
const eventOf = (key: string, n: number) => ({ data: { customer: { id: key }, n } });

interface Watched {
  /** What arrived out of order. */
  faults: string[];
  /** What was answered with success. */
  done: Sent[];
  /** From now on the latest of each key may come once more: a node died before it could write down the answer. */
  nodeDied(): void;
}

/**
 * Answers each request with what `answer` says, and notes all that arrived out of order: before the one of its key that
 * stands before it was answered with success.
 */
function watchOrder(answer: (sent: Sent, request: ReceivedRequest) => void): Watched {
  const next = new Map<string, number>();
  const underWay = new Set<string>();
  const mayRepeat = new Set<string>();
  const watched: Watched = {
    faults: [],
    done: [],
    nodeDied: () => {
      for (const key of next.keys()) mayRepeat.add(key);
    },
  };
  receiver.onRequest = (request) => {
    const sent = sentOf(request);
    let expected = next.get(sent.key) ?? 0;
    if (sent.n === expected - 1 && mayRepeat.delete(sent.key)) {
      expected = sent.n;
      next.set(sent.key, expected);
      watched.done = watched.done.filter(({ key, n }) => key !== sent.key || n !== sent.n);
    }
    if (sent.n !== expected) watched.faults.push(`${sent.key}: ${sent.n} came while ${expected} was due`);
    if (underWay.has(sent.key)) watched.faults.push(`${sent.key}: two at once`);
    underWay.add(sent.key);
    const { respond } = request;
    request.respond = (status, ...rest) => {
      underWay.delete(sent.key);
      if (status === 200) {
        next.set(sent.key, sent.n + 1);
        watched.done.push(sent);
      }
      respond(status, ...rest);
    };
    answer(sent, request);
  };
  return watched;
}

const keys = (count: number) => Array.from({ length: count }, (_, k) => `key-${k}`);

describe('with an ordering key', () => {
  test('events of a key come in the order of their publishing, whatever fails and whichever node they came through', async () => {
    await ordered();
    const watched = watchOrder((_sent, request) => request.respond(Math.random() < 0.25 ? 500 : 200));
    await Promise.all(
      keys(20).map(async (key) => {
        for (let n = 0; n < 20; n++) await cluster.publish(eventOf(key, n), cluster.nodes[n % 2]);
      }),
    );
    await eventually(
      async () => watched.done.length,
      (count) => count === 400,
      30_000,
    );
    expect(watched.faults).toEqual([]);
    await cluster.allBecome('delivered');
  });

  test('without a key in the data its ordering_key counts, and events with neither form one sequence', async () => {
    await ordered();
    const seen = new Map<string, number[]>();
    let failures = 12;
    receiver.onRequest = (request) => {
      const { data } = JSON.parse(request.body.toString());
      failures -= 1;
      if (failures >= 0) return request.respond(500);
      seen.set(data.k, [...(seen.get(data.k) ?? []), data.n]);
      request.respond(200);
    };
    const inOrder = Array.from({ length: 20 }, (_, n) => n);
    await cluster.publishAll(
      inOrder.flatMap((n) => [{ data: { k: 'own', n }, ordering_key: 'own' }, { data: { k: 'none', n } }]),
    );
    await cluster.allBecome('delivered');
    expect(Object.fromEntries(seen)).toEqual({ own: inOrder, none: inOrder });
  });

  test('a key that fails holds up no other key, and keeps little in memory', async () => {
    await ordered({ retry_policy: { max_attempts: 50, schedule_seconds: [1, 3600] } });
    const watched = watchOrder(({ key }, request) => request.respond(key === 'bad' ? 500 : 200));
    await cluster.publishAll(Array.from({ length: 5_000 }, (_, n) => eventOf('bad', n)));
    await receiver.received(1);
    const good = keys(20).flatMap((key) => Array.from({ length: 5 }, (_, n) => eventOf(key, n)));
    await cluster.publishAll(good);
    await eventually(
      async () => watched.done.length,
      (count) => count === good.length,
      15_000,
    );
    expect(watched.faults).toEqual([]);
    const queued = await eventually(
      () => metricOfAll('posthorn_deliveries_queued'),
      (count) => count < 50,
    );
    expect(queued).toBeLessThan(50);
    expect(receiver.requests.filter((request) => sentOf(request).key === 'bad').length).toBeLessThanOrEqual(2);
  });
});

/** The sum of a metric over the nodes. */
async function metricOfAll(name: string): Promise<number> {
  const texts = await Promise.all(cluster.nodes.map(async (node) => (await node.call('GET', '/metrics')).text));
  return texts.reduce((sum, text) => sum + Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1]), 0);
}

const deliveryOf = async (eventId: string) =>
  (await cluster.first.call('GET', `/api/v1/deliveries?event_id=${eventId}`)).body.data[0];
const becomes = (eventId: string, status: string) =>
  eventually(
    () => deliveryOf(eventId),
    (delivery) => delivery.status === status,
  );

describe('when the first of a key cannot be delivered', () => {
  const LATER = { max_attempts: 3, schedule_seconds: [3600] };
  const ONCE = { max_attempts: 1 };

  /** Publishes the key's events through both nodes and waits until the first has failed. */
  async function publishBehindFailure(count: number): Promise<string[]> {
    const ids: string[] = [];
    for (let n = 0; n < count; n++) ids.push(await cluster.publish(eventOf('key', n), cluster.nodes[n % 2]));
    await eventually(
      () => deliveryOf(ids[0] ?? ''),
      ({ attempt_count }) => attempt_count === 1,
    );
    return ids;
  }

  test('with on_dead "skip" the next ones go on when it is dead', async () => {
    await ordered({ retry_policy: ONCE });
    const watched = watchOrder(({ n }, request) => request.respond(n === 0 ? 500 : 200));
    await publishBehindFailure(5);
    await receiver.received(5);
    expect(receiver.requests.map((request) => sentOf(request).n)).toEqual([0, 1, 2, 3, 4]);
    expect(watched.done).toHaveLength(4);
  });

  test('with on_dead "park" they wait for a retry that succeeds', async () => {
    await ordered({ ordering: { enabled: true, key_path: 'customer.id', on_dead: 'park' }, retry_policy: ONCE });
    let healed = false;
    const watched = watchOrder(({ key }, request) => request.respond(healed || key === 'other' ? 200 : 500));
    const ids = await publishBehindFailure(5);
    await cluster.publish(eventOf('other', 0));
    await receiver.received(2);
    await eventually(
      async () => (await cluster.query("SELECT count(*)::int AS n FROM deliveries WHERE due_at = 'infinity'"))[0].n,
      (count) => count === 4,
    );
    // A retry that fails changes nothing.
    const { id } = await deliveryOf(ids[0] ?? '');
    expect((await cluster.nodes[1]?.call('POST', `/api/v1/deliveries/${id}/retry`))?.status).toBe(202);
    await receiver.received(3);
    await becomes(ids[0] ?? '', 'dead');
    healed = true;
    await cluster.first.call('POST', `/api/v1/deliveries/${id}/retry`);
    await cluster.allBecome('delivered');
    expect(watched.faults).toEqual([]);
    expect(await cluster.query('SELECT FROM parked_keys')).toEqual([]);
  });

  test('with on_dead "park" the retry of the dead one waits for none that was cancelled before it and set going again', async () => {
    const { id: webhookId } = await ordered({
      ordering: { enabled: true, key_path: 'customer.id', on_dead: 'park' },
      retry_policy: ONCE,
    });
    let healed = false;
    const done: number[] = [];
    receiver.onRequest = (request) => {
      if (healed) done.push(sentOf(request).n);
      request.respond(healed ? 200 : 500);
    };
    const post = async (path: string) => {
      expect((await cluster.first.call('POST', `/api/v1/${path}`)).status, path).toBeLessThan(300);
    };
    await post(`webhooks/${webhookId}/pause`);
    const before = await cluster.publish(eventOf('ACME', 0));
    const parking = await cluster.publish(eventOf('ACME', 1));
    const cancelled = await deliveryOf(before);
    await post(`deliveries/${cancelled.id}/cancel`);
    await post(`webhooks/${webhookId}/resume`);
    await becomes(parking, 'dead');
    healed = true;
    await post(`deliveries/${cancelled.id}/retry`);
    await eventually(
      async () => (await cluster.query("SELECT count(*)::int AS n FROM deliveries WHERE due_at = 'infinity'"))[0].n,
      (count) => count === 1,
    );
    await post(`deliveries/${(await deliveryOf(parking)).id}/retry`);
    await cluster.allBecome('delivered');
    expect(done).toEqual([1, 0]);
  });

  test.for([
    [
      'the payload of the dead one is erased',
      async (_deliveryId: string, eventId: string) => {
        expect((await cluster.first.call('DELETE', `/api/v1/events/${eventId}/payload`)).status).toBeLessThan(300);
      },
    ],
    [
      'the payload is erased while the dead one is tried again',
      async (deliveryId: string, eventId: string) => {
        await cluster.first.call('POST', `/api/v1/deliveries/${deliveryId}/retry`);
        expect((await cluster.first.call('DELETE', `/api/v1/events/${eventId}/payload`)).status).toBeLessThan(300);
      },
    ],
    [
      'the dead one is cancelled after it was set going again',
      async (deliveryId: string) => {
        await cluster.query(
          "UPDATE deliveries SET status = 'failed', due_at = now() + interval '1 day', completed_at = NULL WHERE status = 'dead'",
        );
        expect((await cluster.first.call('POST', `/api/v1/deliveries/${deliveryId}/cancel`)).status).toBe(200);
      },
    ],
  ] as const)('a parked key goes on when %s', async ([, end]) => {
    await ordered({ ordering: { enabled: true, key_path: 'customer.id', on_dead: 'park' }, retry_policy: ONCE });
    watchOrder(({ n }, request) => request.respond(n === 0 ? 500 : 200));
    const ids = await publishBehindFailure(3);
    const [first = '', , last = ''] = ids;
    await end((await deliveryOf(first)).id, first);
    await becomes(last, 'delivered');
    expect(await cluster.query('SELECT FROM parked_keys')).toEqual([]);
  });

  test('a parked key goes on, however many others wait for a person', async () => {
    await ordered({ ordering: { enabled: true, key_path: 'customer.id', on_dead: 'park' }, retry_policy: ONCE });
    watchOrder(({ n }, request) => request.respond(n === 0 ? 500 : 200));
    const all = [...keys(1_100), 'the last of all'];
    await cluster.publishAll(all.flatMap((key) => [eventOf(key, 0), eventOf(key, 1)]));
    await eventually(
      async () => (await cluster.query('SELECT count(*)::int AS n FROM parked_keys'))[0].n,
      (count) => count === all.length,
      30_000,
    );
    const [{ id }] = await cluster.query(
      `UPDATE deliveries SET status = 'failed', due_at = now() + interval '1 day', completed_at = NULL
       WHERE status = 'dead' AND ordering_key = 'the last of all' RETURNING id`,
    );
    expect((await cluster.first.call('POST', `/api/v1/deliveries/${formatId('delivery', id)}/cancel`)).status).toBe(
      200,
    );
    const requests = await receiver.received(all.length + 1);
    expect(requests.slice(all.length).map(sentOf)).toEqual([{ key: 'the last of all', n: 1 }]);
    expect(await cluster.query("SELECT FROM deliveries WHERE due_at = 'infinity'")).toHaveLength(1_100);
  }, 60_000);

  test('a parked key goes on when the payload is erased while a request of the dead one is under way', async () => {
    await ordered({ ordering: { enabled: true, key_path: 'customer.id', on_dead: 'park' }, retry_policy: ONCE });
    const retried = Promise.withResolvers<() => void>();
    let tries = 0;
    watchOrder(({ n }, request) => {
      if (n > 0) return request.respond(200);
      tries += 1;
      if (tries === 1) return request.respond(500);
      retried.resolve(() => request.respond(500));
    });
    const [first = '', , last = ''] = await publishBehindFailure(3);
    await becomes(first, 'dead');
    await cluster.first.call('POST', `/api/v1/deliveries/${(await deliveryOf(first)).id}/retry`);
    const answer = await retried.promise;
    expect((await cluster.first.call('DELETE', `/api/v1/events/${first}/payload`)).status).toBe(204);
    answer();
    await becomes(last, 'delivered');
    expect(await cluster.query('SELECT FROM parked_keys')).toEqual([]);
    expect((await deliveryOf(first)).status).toBe('dead');
  });

  test('a parked key goes on when nothing parks it any more', async () => {
    await ordered({ ordering: { enabled: true, key_path: 'customer.id', on_dead: 'park' }, retry_policy: ONCE });
    watchOrder(({ n }, request) => request.respond(n === 0 ? 500 : 200));
    const ids = await publishBehindFailure(3);
    await cluster.query('DELETE FROM parked_keys');
    await becomes(ids[2] ?? '', 'delivered');
    expect(receiver.requests.map((request) => sentOf(request).n)).toEqual([0, 1, 2]);
  });

  test('a webhook that parks no more lets parked keys go on', async () => {
    const webhook = await ordered({
      ordering: { enabled: true, key_path: 'customer.id', on_dead: 'park' },
      retry_policy: ONCE,
    });
    watchOrder(({ n }, request) => request.respond(n === 0 ? 500 : 200));
    const ids = await publishBehindFailure(3);
    await cluster.first.call('PATCH', `/api/v1/webhooks/${webhook.id}`, { ordering: { on_dead: 'skip' } });
    await becomes(ids[2] ?? '', 'delivered');
    expect(receiver.requests.map((request) => sentOf(request).n)).toEqual([0, 1, 2]);
  });

  test.for([
    ['skips dead ones', { on_dead: 'skip' }],
    ['keeps no order', { enabled: false }],
  ] as const)('a webhook that %s since a request began parks no key when that request fails', async ([, ordering]) => {
    const webhook = await ordered({
      ordering: { enabled: true, key_path: 'customer.id', on_dead: 'park' },
      retry_policy: ONCE,
    });
    const begun = Promise.withResolvers<() => void>();
    receiver.onRequest = (request) =>
      sentOf(request).n === 0 ? begun.resolve(() => request.respond(500)) : request.respond(200);
    const first = await cluster.publish(eventOf('key', 0));
    const fail = await begun.promise;
    const last = await cluster.publish(eventOf('key', 1));
    await cluster.first.call('PATCH', `/api/v1/webhooks/${webhook.id}`, { ordering });
    fail();
    await becomes(first, 'dead');
    await becomes(last, 'delivered');
    expect(await cluster.query('SELECT FROM parked_keys')).toEqual([]);
  });

  test('a failure that is recorded while its webhook is changed waits for that, and then parks as the webhook says', async () => {
    await ordered({ ordering: { enabled: true, key_path: 'customer.id', on_dead: 'park' }, retry_policy: ONCE });
    const begun = Promise.withResolvers<() => void>();
    receiver.onRequest = (request) =>
      sentOf(request).n === 0 ? begun.resolve(() => request.respond(500)) : request.respond(200);
    const first = await cluster.publish(eventOf('key', 0));
    const fail = await begun.promise;
    const last = await cluster.publish(eventOf('key', 1));
    await cluster.query('BEGIN');
    try {
      await cluster.query(`UPDATE webhooks SET ordering = ordering || '{"on_dead":"skip"}'`);
      fail();
      await eventually(
        () => cluster.query('SELECT FROM pg_locks WHERE NOT granted'),
        (waiting) => waiting.length > 0,
      );
    } finally {
      await cluster.query('COMMIT');
    }
    await becomes(first, 'dead');
    await becomes(last, 'delivered');
    expect(await cluster.query('SELECT FROM parked_keys')).toEqual([]);
  });

  test('they go on when it is cancelled', async () => {
    await ordered({ retry_policy: LATER });
    watchOrder(({ n }, request) => request.respond(n === 0 ? 500 : 200));
    const ids = await publishBehindFailure(3);
    await cluster.query(
      "UPDATE deliveries SET status = 'cancelled', due_at = NULL, completed_at = now() WHERE status = 'failed'",
    );
    await becomes(ids[2] ?? '', 'delivered');
    expect(receiver.requests.map((request) => sentOf(request).n)).toEqual([0, 1, 2]);
  });

  test('they go on when its payload is erased', async () => {
    await ordered({ retry_policy: LATER });
    watchOrder(({ n }, request) => request.respond(n === 0 ? 500 : 200));
    const ids = await publishBehindFailure(3);
    await cluster.first.call('DELETE', `/api/v1/events/${ids[0]}/payload`);
    await becomes(ids[0] ?? '', 'discarded');
    await becomes(ids[2] ?? '', 'delivered');
    expect(receiver.requests.map((request) => sentOf(request).n)).toEqual([0, 1, 2]);
  });

  test('they are discarded with it when the webhook is deleted', async () => {
    const webhook = await ordered({ retry_policy: LATER });
    receiver.onRequest = (request) => request.respond(500);
    await publishBehindFailure(20);
    await cluster.first.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
    await cluster.allBecome('discarded');
    expect(receiver.requests).toHaveLength(1);
  });

  test('they are sent at once when the webhook keeps no order any more', async () => {
    const webhook = await ordered({
      ordering: { enabled: true, key_path: 'customer.id', on_dead: 'park' },
      retry_policy: LATER,
    });
    receiver.onRequest = (request) => request.respond(sentOf(request).n === 0 ? 500 : 200);
    await publishBehindFailure(30);
    await cluster.first.call('PATCH', `/api/v1/webhooks/${webhook.id}`, { ordering: { enabled: false } });
    await eventually(
      () => cluster.statuses(),
      ({ delivered }) => delivered === 29,
    );
    expect(receiver.requests).toHaveLength(30);
  });
});

describe('in the middle of a run', () => {
  test.for([
    ['pausing and resuming', 'pause'],
    ['a stop and start of the nodes', 'restart'],
    ['the death of the node that sends', 'death'],
  ] as const)('%s keeps the order and loses nothing', async ([, what]) => {
    const webhook = await ordered();
    const watched = watchOrder((_sent, request) => request.respond(Math.random() < 0.2 ? 500 : 200));
    const publishing = Promise.all(
      keys(10).map(async (key) => {
        for (let n = 0; n < 15; n++) await cluster.publish(eventOf(key, n), cluster.first);
      }),
    );
    await receiver.received(30);
    if (what === 'pause') {
      await cluster.first.call('POST', `/api/v1/webhooks/${webhook.id}/pause`);
      await publishing;
      await eventually(
        () => cluster.statuses(),
        ({ held = 0, pending = 0, failed = 0 }) => held > 0 && pending + failed >= 0,
      );
      await cluster.first.call('POST', `/api/v1/webhooks/${webhook.id}/resume`);
    } else if (what === 'restart') {
      await publishing;
      for (const node of cluster.nodes) await node.restart();
    } else {
      await publishing;
      const second = cluster.nodes[1];
      if (second === undefined) throw new Error('There is no second node.');
      second.freeze();
      watched.nodeDied();
      await cluster.declareSilent(cluster.numberOf(second));
    }
    await cluster.allBecome('delivered', 20_000);
    expect(watched.faults).toEqual([]);
    expect(watched.done).toHaveLength(150);
    cluster.nodes[1]?.thaw();
  });
});
