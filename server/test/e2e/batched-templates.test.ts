import { gunzipSync } from 'node:zlib';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

/** Templates and transforms of webhooks with batching: each shapes an event, and the batch is what they made. */
let cluster: Cluster;
let receiver: Receiver;
beforeAll(async () => {
  cluster = await startCluster(1);
});
afterAll(() => cluster.stop());
beforeEach(async () => {
  receiver = await startReceiver();
  return async () => {
    for (const kind of ['webhooks', 'templates']) {
      for (const { id } of (await call('GET', `/api/v1/${kind}`)).data) await call('DELETE', `/api/v1/${kind}/${id}`);
    }
    await receiver.stop();
  };
});

async function call(method: string, path: string, body?: unknown, status?: number) {
  const answer = await cluster.first.call(method, path, body);
  if (status !== undefined) expect(answer.status, `${method} ${path}: ${answer.text}`).toBe(status);
  return answer.body;
}
const batching = (fields: object = {}) => ({ enabled: true, max_events: 5, max_wait_ms: 60_000, ...fields });
const hook = (fields: object) => ({ url: receiver.url, batching: batching(), ...fields });
const scripted = (template: string) => ({ transformation: { template, language: 'javascript' } });
const ECHO = { n: '{{ data.n }}', text: '{{ data.text }}' };
const jinja = (template: unknown, fields: object = {}) => ({ transformation: { template, native: true, ...fields } });
const numbered = (count: number, fields: (n: number) => object = () => ({})) =>
  Array.from({ length: count }, (_, n) => ({ data: { n, ...fields(n) } }));
const elements = ({ body }: ReceivedRequest) => JSON.parse(body.toString());
/** The `n` of each element of each request. */
const arrived = () => receiver.requests.map((each) => elements(each).map(({ n }: { n: number }) => n));

interface Ended {
  id: string;
  status: string;
  status_reason: string | null;
  attempt_count: number;
  // biome-ignore lint/suspicious/noExplicitAny: as the API shows them
  attempts: any[];
}

/** All deliveries of a webhook when each has ended, in the order of their events. */
async function ended({ id }: { id: string }, count: number): Promise<Ended[]> {
  const rows = await eventually(
    async () => (await call('GET', `/api/v1/deliveries?limit=250&webhook_id=${id}`)).data as Ended[],
    (found) =>
      found.length === count &&
      found.every(({ status }) => ['delivered', 'dead', 'discarded', 'cancelled'].includes(status)),
    20_000,
  );
  return Promise.all(rows.toReversed().map((row) => call('GET', `/api/v1/deliveries/${row.id}`)));
}
const ONCE = { retry_policy: { enabled: false } };
const AT_ONCE = { retry_policy: { initial_delay_seconds: 0, max_delay_seconds: 0, jitter: 0 } };

describe('a batch is the array of what was made of each event', () => {
  test('signed as it is, compressed, and recorded a part with each delivery', async () => {
    const stored = await call('POST', '/api/v1/templates', { name: 'Small', template: { id: '{{ data.n }}' } }, 201);
    await call('PATCH', `/api/v1/templates/${stored.id}`, { template: { number: '{{ data.n }}' } }, 200);
    const webhook = await cluster.webhook(
      hook({ transformation: { template: 'Small' }, batching: batching({ max_events: 3 }), compression: 'gzip' }),
    );
    receiver.onRequest = (request) => request.respond(200, {}, 'what a receiver says of all of them');
    await cluster.publishAll(numbered(3));
    const deliveries = await ended(webhook, 3);
    expect(receiver.requests).toHaveLength(1);
    const [{ headers, body }] = receiver.requests as [ReceivedRequest];
    const text = gunzipSync(body).toString();
    expect(text).toBe('[{"number":"0"},{"number":"1"},{"number":"2"}]');
    expect(() => new Webhook(webhook.secret).verify(text, headers as Record<string, string>)).not.toThrow();
    expect(headers).toMatchObject({ 'content-type': 'application/json', 'x-webhook-batch-size': '3' });
    for (const [n, { status, attempts }] of deliveries.entries()) {
      expect(status).toBe('delivered');
      expect(attempts).toMatchObject([
        {
          request_body: `{"number":"${n}"}`,
          request_truncated: true,
          response_body: null,
          template_id: stored.id,
          template_version: 2,
        },
      ]);
    }
  });

  test('with a transform too, and what makes no body has its envelope', async () => {
    const webhook = await cluster.webhook(
      hook({
        ...scripted('(event) => event.data.n === 1 ? {} : { body: [event.data.n] }'),
        batching: batching({ max_events: 3 }),
      }),
    );
    await cluster.publishAll(numbered(3));
    const [, second] = await ended(webhook, 3);
    const [request] = receiver.requests as [ReceivedRequest];
    expect(elements(request)).toEqual([[0], expect.objectContaining({ type: 'order.paid', data: { n: 1 } }), [2]]);
    expect(JSON.parse(second?.attempts[0].request_body)).toEqual(elements(request)[1]);
  });

  test('by the template for its type, under a media type of their own where all have the same', async () => {
    for (const event_type of ['order.paid', 'order.sent']) {
      const template = { type: event_type };
      const content_type = 'application/vnd.example+json';
      await call('POST', '/api/v1/templates', { name: 'Typed', event_type, template, content_type }, 201);
    }
    const webhook = await cluster.webhook(
      hook({ transformation: { template: 'Typed' }, batching: batching({ max_events: 2 }) }),
    );
    await cluster.publishAll([{ event_type: 'order.paid' }, { event_type: 'order.sent' }]);
    await ended(webhook, 2);
    const [request] = receiver.requests as [ReceivedRequest];
    expect(elements(request)).toEqual([{ type: 'order.paid' }, { type: 'order.sent' }]);
    expect(request.headers['content-type']).toBe('application/vnd.example+json');
  });

  test('a test is one too, and says what a transform makes of it', async () => {
    const template = '(event) => event.data.n === 1 ? { cancel: true } : { body: { n: event.data.n.valueOf() } }';
    const { id } = await cluster.webhook(hook(scripted(template)));
    const sent = await call('POST', `/api/v1/webhooks/${id}/test`, { payload: { n: 7 } });
    expect(sent).toMatchObject({ is_success: true, request_body: '{"n":7}' });
    const cancelled = await call('POST', `/api/v1/webhooks/${id}/test`, { payload: { n: 1 } });
    const failed = await call('POST', `/api/v1/webhooks/${id}/test`, { payload: { n: null } });
    for (const attempt of [cancelled, failed]) {
      expect(attempt).toMatchObject({ is_success: false, error_class: 'template', response_status: null });
    }
    expect(arrived()).toEqual([[7]]);
  });
});

describe('of a batch', () => {
  test('one whose template fails is an attempt by itself, and the others go without it', async () => {
    const template = '{"n": {{ data.n + data.add }}}';
    const webhook = await cluster.webhook(
      hook({ ...jinja(template), ...AT_ONCE, batching: batching({ max_events: 3, max_wait_ms: 500 }) }),
    );
    await cluster.publishAll(numbered(3, (n) => ({ add: n === 1 ? 'secret' : 0 })));
    const [first, second, third] = await ended(webhook, 3);
    expect(arrived()).toEqual([[0, 2]]);
    expect(receiver.requests[0]?.headers['x-webhook-batch-size']).toBe('2');
    for (const sent of [first, third]) expect(sent).toMatchObject({ status: 'delivered', attempt_count: 1 });
    expect(second).toMatchObject({ status: 'dead', status_reason: 'template_fault', attempt_count: 5 });
    expect(second?.attempts[0]).toMatchObject({
      error_class: 'template',
      error_message: 'The template failed: invalid operation (template, line 1, column 10).',
      request_body: null,
      request_headers: {},
    });
  });

  test('one that a transform cancels is discarded alone', async () => {
    const template = '(event) => ({ body: event.data, cancel: event.data.n === 1 })';
    const webhook = await cluster.webhook(hook({ ...scripted(template), batching: batching({ max_events: 3 }) }));
    await cluster.publishAll(numbered(3));
    const deliveries = await ended(webhook, 3);
    expect(arrived()).toEqual([[0, 2]]);
    expect(deliveries.map(({ status }) => status)).toEqual(['delivered', 'discarded', 'delivered']);
    expect(deliveries[1]).toMatchObject({ status_reason: 'cancelled_by_transform', attempt_count: 0 });
  });

  test('nothing is sent where all of it is cancelled or fails, and the lane goes on', async () => {
    const template = '(event) => ({ body: event.data.ok.valueOf(), cancel: event.data.ok === false })';
    const webhook = await cluster.webhook(
      hook({
        ...scripted(template),
        batching: batching({ max_events: 2 }),
        max_concurrency: 1,
        retry_policy: { schedule_seconds: [600] },
      }),
    );
    await cluster.publishAll(numbered(2, (n) => ({ ok: n === 0 ? false : null })));
    await eventually(
      async () => (await call('GET', `/api/v1/deliveries?webhook_id=${webhook.id}`)).data as Ended[],
      (rows) => rows.length === 2 && rows.every(({ status }) => status === 'failed' || status === 'discarded'),
    );
    expect(receiver.requests).toHaveLength(0);
    await cluster.publishAll(numbered(2, () => ({ ok: { fine: 1 } })));
    const [request] = await receiver.received(1);
    expect(elements(request as ReceivedRequest)).toEqual([{ fine: 1 }, { fine: 1 }]);
  });

  test.each([
    ['headers', '{ body: event.data, headers: { "X-N": "1" } }', /^A batch goes with headers of the webhook only/],
    ['a url', '{ body: event.data, url: "https://example.com/other" }', /^A batch goes to the URL of the webhook/],
    ['a text that is no JSON', '{ body: "n is 1" }', /^The body is not JSON/],
  ])('one for which a transform gives %s is an attempt of class template', async (_, made, message) => {
    const template = `(event) => event.data.n === 1 ? (${made}) : ({ body: event.data })`;
    const webhook = await cluster.webhook(
      hook({ ...scripted(template), ...AT_ONCE, batching: batching({ max_events: 3, max_wait_ms: 500 }) }),
    );
    await cluster.publishAll(numbered(3));
    const [, second] = await ended(webhook, 3);
    expect(arrived()).toEqual([[0, 2]]);
    expect(second?.attempts[0]).toMatchObject({
      error_class: 'template',
      error_message: expect.stringMatching(message),
      url: `${receiver.url}/`,
    });
  });

  test('one whose stored template no longer gives JSON fails by itself', async () => {
    const name = 'Changing';
    await call('POST', '/api/v1/templates', { name, template: ECHO, native: true }, 201);
    const sent = { name, event_type: 'order.sent', template: 'n is {{ data.n }}' };
    const webhook = await cluster.webhook(
      hook({ transformation: { template: name }, ...AT_ONCE, batching: batching({ max_events: 2, max_wait_ms: 500 }) }),
    );
    await call('POST', '/api/v1/templates', { ...sent, content_type: 'text/plain' }, 201);
    await cluster.publishAll(numbered(2).map((event, n) => (n === 0 ? { ...event, event_type: 'order.sent' } : event)));
    const [failed, delivered] = await ended(webhook, 2);
    expect(delivered?.status).toBe('delivered');
    expect(failed?.attempts[0]).toMatchObject({
      error_class: 'template',
      error_message: 'Each event of a batch has to be JSON (content_type).',
    });
    expect(arrived()).toEqual([[1]]);
  });
});

describe('what no longer fits after shaping goes in the next request', () => {
  test('in order, once, and without another wait; what is too large by itself goes alone', async () => {
    const options = batching({ max_events: 20, max_bytes: 2_048 });
    const webhook = await cluster.webhook(
      hook({
        ...scripted('({ data: { n, times } }) => ({ body: { n, text: "x".repeat(times) } })'),
        batching: options,
        max_concurrency: 1,
      }),
    );
    await cluster.publishAll(numbered(20, (n) => ({ times: n === 7 ? 5_000 : 400 })));
    const deliveries = await ended(webhook, 20);
    expect(arrived().flat()).toEqual(Array.from({ length: 20 }, (_, n) => n));
    for (const { status, attempt_count } of deliveries) expect([status, attempt_count]).toEqual(['delivered', 1]);
    const large = receiver.requests.filter(({ body }) => body.length > 2_048);
    expect(large.map((each) => elements(each).length)).toEqual([1]);
    expect(Math.max(...arrived().map((each) => each.length))).toBe(4);
  });

  test('while others of the webhook are under way, and each of them is sent once', async () => {
    const options = batching({ max_events: 10, max_bytes: 2_048, max_wait_ms: 200 });
    const webhook = await cluster.webhook(
      hook({ ...scripted('({ data: { n } }) => ({ body: { n, text: "x".repeat(n * 20) } })'), batching: options }),
    );
    await cluster.publishAll(numbered(100));
    await ended(webhook, 100);
    expect(
      arrived()
        .flat()
        .toSorted((a, b) => a - b),
    ).toEqual(Array.from({ length: 100 }, (_, n) => n));
  });

  test('and the events of a key come in their order', async () => {
    const options = batching({ max_events: 10, max_bytes: 1_024, max_wait_ms: 50 });
    const webhook = await cluster.webhook(
      hook({
        ...scripted('({ data: { n, key } }) => ({ body: { n, key, text: "x".repeat(300) } })'),
        batching: options,
        ordering: { enabled: true, key_path: 'key' },
      }),
    );
    await cluster.publishAll(numbered(60, (n) => ({ key: n % 6 })));
    await ended(webhook, 60);
    const sent: { n: number; key: number }[] = receiver.requests.flatMap(elements);
    for (let key = 0; key < 6; key += 1) {
      const ofKey = sent.filter((each) => each.key === key).map(({ n }) => n);
      expect(ofKey).toEqual(Array.from({ length: 10 }, (_, n) => key + n * 6));
    }
  });

  test('but nothing of what was cancelled while it was shaped', async () => {
    // Each takes a while, so that all of them are still being shaped.
    const template =
      '({ data: { n } }) => { const end = Date.now() + 40; while (Date.now() < end); return { body: { n, text: "x".repeat(600) } }; }';
    const shaped = async () => {
      const { text } = await cluster.first.call('GET', '/metrics');
      return Number(/^posthorn_template_runs_total\{result="ok"\} (\d+)$/m.exec(text)?.[1]);
    };
    /** Cancels the first and the last of so many; undefined: it was too late, the first request had gone. */
    const cancelTwoOf = async (count: number): Promise<Ended[] | undefined> => {
      receiver.requests.length = 0;
      const before = await shaped();
      const options = batching({ max_events: count, max_bytes: 1_024 });
      const webhook = await cluster.webhook(hook({ ...scripted(template), batching: options, max_concurrency: 1 }));
      await cluster.publishAll(numbered(count));
      const rows = (await call('GET', `/api/v1/deliveries?limit=250&webhook_id=${webhook.id}`)).data as Ended[];
      // Cancelled before it was taken into the batch, one would be missing there until the others had waited for a minute.
      await eventually(shaped, (runs) => runs > before);
      for (const row of [rows.at(-1), rows[0]]) await call('POST', `/api/v1/deliveries/${row?.id}/cancel`, {});
      const inTime = receiver.requests.length === 0;
      const deliveries = await ended(webhook, count);
      await call('DELETE', `/api/v1/webhooks/${webhook.id}`);
      return inTime ? deliveries : undefined;
    };
    let count = 16;
    let deliveries = await cancelTwoOf(count);
    // The more there are, the more time has a slow machine.
    for (; deliveries === undefined && count < 100; deliveries = await cancelTwoOf(count))
      count = Math.min(100, count * 2);
    expect(deliveries).toHaveLength(count);
    for (const cancelled of [deliveries?.at(0), deliveries?.at(-1)]) {
      expect(cancelled).toMatchObject({ status: 'cancelled', attempts: [] });
    }
    expect(arrived().flat()).toEqual(Array.from({ length: count - 2 }, (_, n) => n + 1));
  }, 60_000);

  test('also when the program is stopped while they are shaped: nothing is lost, and nothing is sent twice', async () => {
    const template =
      '({ data: { n } }) => { const end = Date.now() + 30; while (Date.now() < end); return { body: { n, text: "x".repeat(600) } }; }';
    const options = batching({ max_events: 10, max_bytes: 2_048, max_wait_ms: 100 });
    const webhook = await cluster.webhook(hook({ ...scripted(template), batching: options, max_concurrency: 2 }));
    await cluster.publishAll(numbered(20));
    await cluster.first.restart();
    await ended(webhook, 20);
    expect(
      arrived()
        .flat()
        .toSorted((a, b) => a - b),
    ).toEqual(Array.from({ length: 20 }, (_, n) => n));
  });

  test('when the receiver finds the batch too large (413), down to single events', async () => {
    receiver.onRequest = (request) => request.respond(request.body.length > 700 ? 413 : 200);
    const webhook = await cluster.webhook(
      hook({
        ...scripted('({ data: { n } }) => ({ body: { n, text: "x".repeat(500) } })'),
        ...ONCE,
        batching: batching({ max_events: 4 }),
      }),
    );
    await cluster.publishAll(numbered(4));
    const deliveries = await ended(webhook, 4);
    expect(deliveries.map(({ status }) => status)).toEqual(Array.from({ length: 4 }, () => 'delivered'));
    const taken = receiver.requests.filter(({ body }) => body.length <= 700);
    expect(
      taken
        .flatMap(elements)
        .map(({ n }: { n: number }) => n)
        .toSorted(),
    ).toEqual([0, 1, 2, 3]);
    expect(arrived()[0]).toHaveLength(4);
  });
});

test('while a batch is shaped at length, other webhooks with templates are served', async () => {
  const quick = await startReceiver();
  try {
    const other = await cluster.webhook({ url: quick.url, events: ['quick.*'], ...jinja(ECHO) });
    await cluster.publish({ event_type: 'quick.first', data: { n: 0 } });
    await quick.received(1);
    const webhook = await cluster.webhook(
      hook({ ...scripted('() => { for (;;); }'), ...ONCE, events: ['slow.*'], batching: batching({ max_events: 20 }) }),
    );
    await cluster.publishAll(numbered(20).map((event) => ({ ...event, event_type: 'slow.one' })));
    for (let n = 1; n <= 5; n += 1) await cluster.publish({ event_type: 'quick.next', data: { n } });
    await quick.received(6);
    const { data } = await call('GET', `/api/v1/deliveries?limit=250&webhook_id=${webhook.id}`);
    expect(data.map(({ status }: Ended) => status)).toEqual(Array.from({ length: 20 }, () => 'pending'));
    await ended(other, 6);
  } finally {
    await quick.stop();
  }
});

describe('is refused on write, naming both fields', () => {
  const both = (path: string) => [
    expect.objectContaining({ path: 'batching.enabled' }),
    expect.objectContaining({ path }),
  ];
  const create = (fields: object) =>
    call('POST', '/api/v1/webhooks', { name: 'Test', events: ['*'], url: receiver.url, ...fields }, 422);

  test('a content_type that is not JSON, whichever comes first', async () => {
    const text = jinja('n is {{ data.n }}', { content_type: 'text/plain' });
    const refused = both('transformation.content_type');
    expect((await create({ ...text, batching: batching() })).error.details.fields).toEqual(refused);
    const batched = await cluster.webhook(hook({}));
    const later = await call('PATCH', `/api/v1/webhooks/${batched.id}`, text, 422);
    expect(later.error.details.fields).toEqual(refused);
    const shaped = await cluster.webhook({ url: receiver.url, ...text });
    const other = await call('PATCH', `/api/v1/webhooks/${shaped.id}`, { batching: batching() }, 422);
    expect(other.error.details.fields).toEqual(refused);
    const json = { transformation: { template: ECHO, content_type: 'application/json' }, batching: batching() };
    await call('PATCH', `/api/v1/webhooks/${shaped.id}`, json, 200);
    await call(
      'PATCH',
      `/api/v1/webhooks/${shaped.id}`,
      { transformation: { enabled: false, content_type: 'text/plain' } },
      200,
    );
  });

  test.each([
    ['content_type', { template: 'n is {{ data.n }}', content_type: 'text/plain' }],
    ['headers', { template: ECHO, headers: { 'X-N': '{{ data.n }}' } }],
  ])('a stored template whose %s cannot be in a batch, whichever comes first', async (_, content) => {
    await call('POST', '/api/v1/templates', { name: 'Stored', ...content }, 201);
    const named = { transformation: { template: 'Stored' } };
    const refused = both('transformation.template');
    expect((await create({ ...named, batching: batching() })).error.details.fields).toEqual(refused);
    const batched = await cluster.webhook(hook({}));
    const later = await call('PATCH', `/api/v1/webhooks/${batched.id}`, named, 422);
    expect(later.error.details.fields).toEqual(refused);
    const shaped = await cluster.webhook({ url: receiver.url, ...named });
    const other = await call('PATCH', `/api/v1/webhooks/${shaped.id}`, { batching: batching() }, 422);
    expect(other.error.details.fields).toEqual(refused);
  });
});
