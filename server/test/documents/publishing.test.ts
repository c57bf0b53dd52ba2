import http from 'node:http';
import path from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type DocumentTenant, openTenant } from './document-tenant.ts';
import { openGuide } from './guide-code.ts';
import { hasCurl, hasPython } from './printed-code.ts';

/** docs/publishing.md: its programs run, for the services of whatsapp-crm.md, and its tables are true. */
const guide = openGuide('publishing.md');
let posthorn: TestPosthorn;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(async () => {
  await guide.remove();
  await posthorn.stop();
});
let count = 0;
let slug = '';
let tenant: DocumentTenant;
let receiver: Receiver;
beforeEach(async () => {
  count += 1;
  slug = `services-${count}`;
  tenant = await openTenant(posthorn, slug, 'whatsapp-crm');
  receiver = await startReceiver();
  return () => receiver.stop();
});

type Change = (tenantId: string, thing: object) => Promise<void>;
type Services = Record<
  'messages' | 'conversations' | 'campaigns' | 'flows' | 'contacts' | 'automations' | 'templates',
  Record<string, Change>
>;
interface App extends Services {
  db: DatabaseSync;
  webhooksService: {
    triggerEvent(tenantId: string, eventType: string, payload: object, eventId?: string): void;
    relay(): Promise<number>;
  };
}

async function openApp(env: Record<string, string> = {}): Promise<App> {
  const { createApp } = await import(path.join(guide.folder, 'app.mjs'));
  return createApp({ DATABASE: ':memory:', POSTHORN_URL: posthorn.url, POSTHORN_KEY: tenant.key, ...env });
}

const waiting = (app: App) => app.db.prepare('SELECT event, refused FROM outbox ORDER BY position').all();
const bodies = () => receiver.requests.map(({ body }) => JSON.parse(body.toString()));

/** What each service does, and the events that tell of it. */
const SERVICES: [name: keyof Services, methods: string[], events: string[]][] = [
  [
    'messages',
    ['receive', 'send', 'markDelivered', 'markRead', 'markFailed'],
    ['new', 'sent', 'delivered', 'read', 'failed'],
  ],
  [
    'conversations',
    ['open', 'update', 'assign', 'resolve', 'close'],
    ['created', 'updated', 'assigned', 'resolved', 'closed'],
  ],
  ['campaigns', ['start', 'complete', 'fail'], ['started', 'completed', 'failed']],
  ['flows', ['start', 'complete', 'fail'], ['started', 'completed', 'failed']],
  ['contacts', ['create', 'update'], ['created', 'updated']],
  ['automations', ['trigger', 'complete'], ['triggered', 'completed']],
  ['templates', ['approve', 'reject'], ['approved', 'rejected']],
];

test.each(SERVICES)(
  'the service of %s tells of all that happens in it, in order, and of nothing twice',
  async (name, methods, events) => {
    const app = await openApp();
    const type = name.slice(0, -1);
    await tenant.createWebhook(receiver.url, { events: [`${type}.*`], ordering: { enabled: true, key_path: 'id' } });
    for (const [at, method] of methods.entries()) await app[name][method]?.(slug, { id: `${type}_1`, at });
    expect(waiting(app)).toHaveLength(methods.length);
    expect(await app.webhooksService.relay()).toBe(0);
    expect(waiting(app)).toEqual([]);
    await receiver.received(methods.length);
    expect(bodies()).toMatchObject(
      events.map((status, at) => ({ event: `${type}.${status}`, data: { id: `${type}_1`, at } })),
    );
    expect(await app.webhooksService.relay()).toBe(0);
    expect((await tenant.call('GET', '/api/v1/events')).body.data).toHaveLength(methods.length);
  },
);

test('the services and their events are all that the document has', () => {
  const named = SERVICES.flatMap(([name, , events]) => events.map((status) => `${name.slice(0, -1)}.${status}`));
  expect(named).toHaveLength(22);
});

test('one configuration gives all services the same client, with address and key of the environment', async () => {
  const app = await openApp();
  for (const [name] of SERVICES) expect((app[name] as unknown as App).webhooksService).toBe(app.webhooksService);
  expect(app.webhooksService).toMatchObject({ url: posthorn.url, key: tenant.key });
});

test('the call that the document prints triggers an event', async () => {
  const app = await openApp();
  await tenant.createWebhook(receiver.url);
  const service = { webhooksService: app.webhooksService };
  const printed = 'await this.webhooksService.triggerEvent(tenantId, eventType, payload);';
  const AsyncFunction = (async () => {}).constructor as FunctionConstructor;
  await AsyncFunction('tenantId', 'eventType', 'payload', printed).call(service, slug, 'flow.started', { id: 'f_1' });
  await app.webhooksService.relay();
  await receiver.received(1);
  expect(bodies()).toMatchObject([{ event: 'flow.started', data: { id: 'f_1' } }]);
});

describe('an outbox', () => {
  test('has no event of a change that was not committed', async () => {
    const app = await openApp();
    app.db.exec("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'disk full'); END");
    await expect(app.messages.receive?.(slug, { id: 'm_1' })).rejects.toThrow('disk full');
    expect(app.db.prepare('SELECT * FROM things').all()).toEqual([]);
    app.db.exec('DROP TRIGGER full; BEGIN');
    app.webhooksService.triggerEvent(slug, 'message.new', { id: 'm_1' });
    app.db.exec('ROLLBACK');
    expect(waiting(app)).toEqual([]);
  });

  test('lets the product work while Posthorn is away, and sends when it is back', async () => {
    const away = await startReceiver();
    await away.stop();
    const app = await openApp({ POSTHORN_URL: away.url });
    await tenant.createWebhook(receiver.url);
    await app.messages.receive?.(slug, { id: 'm_1' });
    expect(await app.webhooksService.relay()).toBeGreaterThan(0);
    expect(waiting(app)).toHaveLength(1);
    Object.assign(app.webhooksService, { url: posthorn.url });
    expect(await app.webhooksService.relay()).toBe(0);
    await receiver.received(1);
  });

  test('sends again what was accepted without an answer, and it is delivered once', async () => {
    const { url, answers, stop } = await startProxy(({ number }) => (number === 1 ? 'cut' : 'pass'));
    const app = await openApp({ POSTHORN_URL: url });
    const { id } = await tenant.createWebhook(receiver.url);
    await app.messages.receive?.(slug, { id: 'm_1' });
    expect(await app.webhooksService.relay()).toBeGreaterThan(0);
    expect(waiting(app)).toHaveLength(1);
    expect(await app.webhooksService.relay()).toBe(0);
    await stop();
    expect(answers.map((each) => JSON.parse(each).data[0].duplicate)).toEqual([false, true]);
    const [event] = (await tenant.call('GET', '/api/v1/events')).body.data;
    await tenant.delivery(event.id, id, 'delivered');
    expect(receiver.requests).toHaveLength(1);
  });

  test.each([503, 500])('keeps to Retry-After of a %i', async (status) => {
    const { url, stop } = await startProxy(({ number }) => (number === 1 ? { status, retryAfter: '7' } : 'pass'));
    const app = await openApp({ POSTHORN_URL: url });
    await app.messages.receive?.(slug, { id: 'm_1' });
    expect(await app.webhooksService.relay()).toBe(7);
    expect(await app.webhooksService.relay()).toBe(0);
    await stop();
    expect((await tenant.call('GET', '/api/v1/events')).body.data).toHaveLength(1);
  });

  test('passes a tenant’s limit in pieces, in order, and loses nothing', async () => {
    const limited = await posthorn.call('PATCH', `/api/v1/tenants/${slug}`, { limits: { events_per_second: 20 } });
    expect(limited.status, limited.text).toBe(200);
    const app = await openApp();
    for (let n = 0; n < 50; n++) await app.messages.receive?.(slug, { id: `m_${n}` });
    const waits: number[] = [];
    await eventually(
      async () => {
        waits.push(await app.webhooksService.relay());
        return waits.at(-1);
      },
      (wait) => wait === 0,
    );
    expect(waits.length).toBeGreaterThan(1);
    const { data } = (await tenant.call('GET', '/api/v1/events?limit=250')).body;
    expect(data).toHaveLength(50);
  });

  test('puts aside the event that is refused, with the reason, and sends the others', async () => {
    const app = await openApp();
    await tenant.createWebhook(receiver.url, { ordering: { enabled: true, key_path: null } });
    for (const type of ['message.new', 'message.nwe', 'message.read']) {
      app.webhooksService.triggerEvent(slug, type, { id: 'm_1' });
    }
    expect(await app.webhooksService.relay()).toBe(0);
    const [left, ...others] = waiting(app);
    expect(others).toEqual([]);
    expect(JSON.parse(String(left?.event)).event_type).toBe('message.nwe');
    expect(JSON.parse(String(left?.refused)).error.code).toBe('unknown_event_type');
    await receiver.received(2);
    expect(bodies().map(({ event }) => event)).toEqual(['message.new', 'message.read']);
  });

  test('puts nothing aside for a key that is wrong, or is another tenant’s', async () => {
    const app = await openApp({ POSTHORN_KEY: 'wrong' });
    await app.messages.receive?.(slug, { id: 'm_1' });
    await app.messages.receive?.(slug, { id: 'm_2' });
    expect(await app.webhooksService.relay()).toBeGreaterThan(0);
    await openTenant(posthorn, `${slug}-other`, 'whatsapp-crm');
    Object.assign(app.webhooksService, { key: tenant.key });
    app.db.prepare('UPDATE outbox SET tenant = ?').run(`${slug}-other`);
    expect(await app.webhooksService.relay()).toBeGreaterThan(0);
    expect(waiting(app)).toMatchObject([{ refused: null }, { refused: null }]);
    app.db.prepare('UPDATE outbox SET tenant = ?').run(slug);
    expect(await app.webhooksService.relay()).toBe(0);
  });
});

const env = () => ({ POSTHORN_URL: posthorn.url, POSTHORN_KEY: tenant.key });

test.runIf(hasCurl)('publish.sh publishes once, however often it runs', async () => {
  const first = await guide.run('publish.sh', env(), ['order_1']);
  const again = await guide.run('publish.sh', env(), ['order_1']);
  expect([first.code, again.code]).toEqual([0, 0]);
  const [one, two] = [first, again].map(({ output }) => JSON.parse(output));
  expect(two).toEqual({ ...one, duplicate: true });
  expect((await guide.run('publish.sh', { ...env(), POSTHORN_KEY: 'wrong' }, ['order_1'])).code).not.toBe(0);
});

describe.runIf(hasPython)('publish.py', () => {
  const run = (args: string[], url = posthorn.url) => guide.run('publish.py', { ...env(), POSTHORN_URL: url }, args);

  test('tries again after a 503, a 429 and a lost answer, and the event is published once', async () => {
    const { url, stop } = await startProxy(({ number }) => {
      if (number === 1) return { status: 503, retryAfter: '0' };
      if (number === 2) return { status: 429, retryAfter: '0' };
      return number === 3 ? 'cut' : 'pass';
    });
    const { code, output, errors } = await run(['message.new', 'm_1', '{"a": 1}'], url);
    await stop();
    expect([code, errors]).toEqual([0, '']);
    expect(JSON.parse(output)).toMatchObject({ event_id: 'm_1', duplicate: true });
    expect((await tenant.call('GET', '/api/v1/events')).body.data).toHaveLength(1);
  });

  test('does not try again what is refused, and says why', async () => {
    const { code, errors } = await run(['message.nwe', 'm_1', '{}']);
    expect([code, JSON.parse(errors).error.code]).toEqual([1, 'unknown_event_type']);
  });
});

test('a batch is accepted whole or not at all, says which event is at fault, and is repeatable', async () => {
  const batch = (types: string[]) => {
    const events = types.map((event_type, at) => ({ event_type, event_id: `e_${at}`, data: {} }));
    return tenant.call('POST', '/api/v1/events/batch', { events });
  };
  const refused = await batch(['message.new', 'message.nwe']);
  expect([refused.status, refused.body.error.details.fields[0].path]).toEqual([422, 'events.1.event_type']);
  expect((await tenant.call('GET', '/api/v1/events')).body.data).toEqual([]);
  for (const duplicate of [false, true]) {
    const { status, body } = await batch(['message.new', 'message.read']);
    expect([status, body.data.map((row: Answer['body']) => row.duplicate)]).toEqual([202, [duplicate, duplicate]]);
  }
});

test('the test of a service passes, and fails where the event type is not there', async () => {
  const own = { ...env(), TENANT: slug };
  const passed = await guide.run('services.test.mjs', own);
  expect(passed.code, passed.output + passed.errors).toBe(0);
  await posthorn.call('DELETE', '/api/v1/event-types/message.new', undefined, { 'x-tenant-id': slug });
  expect((await guide.run('services.test.mjs', own)).code).not.toBe(0);
});

test('the limits are what the guide says, and each error has the id that its answer has', async () => {
  const events = Array.from({ length: 1_001 }, () => ({ event_type: 'message.new', data: {} }));
  expect((await tenant.call('POST', '/api/v1/events/batch', { events })).status).toBe(422);
  expect((await tenant.call('POST', '/api/v1/events/batch', { events: events.slice(1) })).status).toBe(202);
  const large = { event_type: 'message.new', data: 'x'.repeat(1_048_576) };
  const refused = await tenant.call('POST', '/api/v1/events', large);
  expect(refused.status).toBe(413);
  expect(refused.body.error.request_id).toBe(refused.headers.get('x-request-id'));
  const metadata = { text: 'x'.repeat(16_384) };
  expect((await tenant.call('POST', '/api/v1/events', { ...large, data: 1, metadata })).status).toBe(422);
  await posthorn.call('PATCH', `/api/v1/tenants/${slug}`, { limits: { events_per_second: 1 } });
  const answers = [1, 2, 3].map(() => tenant.call('POST', '/api/v1/events', { event_type: 'message.new', data: {} }));
  const limited = (await Promise.all(answers)).find(({ status }) => status === 429);
  expect(limited?.headers.get('retry-after')).toMatch(/^\d+$/);
  expect(limited?.headers.get('ratelimit-limit')).toBe('1');
});

type Fate = 'pass' | 'cut' | { status: number; retryAfter: string };

/** Stands before Posthorn, and passes a request on, cuts the answer off, or answers itself. */
async function startProxy(fateOf: (request: { number: number }) => Fate) {
  const answers: string[] = [];
  let number = 0;
  const server = http.createServer(async (request, response) => {
    number += 1;
    const fate = fateOf({ number });
    const body = Buffer.concat(await request.toArray());
    if (typeof fate === 'object') {
      response.writeHead(fate.status, { 'retry-after': fate.retryAfter }).end('{}');
      return;
    }
    const { host: _, connection: __, 'content-length': ___, ...headers } = request.headers;
    const answer = await posthorn.call('POST', request.url ?? '', body, headers as Record<string, string>);
    answers.push(answer.text);
    if (fate === 'cut') response.destroy();
    else response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    answers,
    stop: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
