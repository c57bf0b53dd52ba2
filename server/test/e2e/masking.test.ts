import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { ROUTES } from './documented-routes.ts';

const GETS = ROUTES.filter(({ method }) => method === 'GET');

/** What nobody may find who has no right to. Each kind at a value of its own, wherever it can be planted. */
const PLANTED = {
  email: 'mary.poppins@example.com',
  'email in metadata': 'bert.sweep@example.org',
  'email as an event id': 'jane.banks@example.net',
  phone: '+44 20 7946 0958',
  card: '4111 1111 1111 1111',
  'card as a number': '5555555555554444',
  'by path': '17 Cherry Tree Lane',
  'by path in a list': 'feed the birds',
  'by path in metadata': 'admiral boom',
  'by name': 'GB33BUKB20201555555555',
  password: 'spit-spot-12',
  'password in a text': 'hunter-of-two',
  token: 'tok_supercalifragilistic',
  'cookie in an answer': 'sid-answer-777',
  'authorization in an answer': 'QmVydDpTd2VlcA==',
  'email in a header': 'michael.banks@example.com',
  'token in a URL': 'url-token-31337',
  'email in the webhook': 'ellen.cook@example.com',
} as const;

/** Shown to nobody at all: what is written only. */
const WRITE_ONLY = 'Bearer of-the-webhook-itself';

const DATA =
  `{"customer":{"address":"${PLANTED['by path']}","email":"${PLANTED.email}","phone":"${PLANTED.phone}"},` +
  `"card":"${PLANTED.card}","number":${PLANTED['card as a number']},"amount":1.50,"big":12345678901234567890,` +
  `"items":[{"note":"${PLANTED['by path in a list']}"}],"IBAN":"${PLANTED['by name']}","pass\\u0077ord":"${PLANTED.password}",` +
  `"log":"tried password=${PLANTED['password in a text']}","nested":"{\\"access_token\\":\\"${PLANTED.token}\\"}"}`;
const METADATA = `{"by":"${PLANTED['email in metadata']}","operator":{"name":"${PLANTED['by path in metadata']}"}}`;

const RULES = {
  paths: ['customer.address', 'items[*].note', 'operator.name'],
  detectors: ['email', 'phone', 'card'],
  names: ['iban'],
};

let posthorn: TestPosthorn;
let receiver: Receiver;
let tenant: { id: string; keys: Record<string, string> };
let ids: Record<string, string>;
const log: string[] = [];

beforeAll(async () => {
  receiver = await startReceiver();
  posthorn = await startTestPosthorn({ logLevel: 'trace' }, undefined, { write: (line) => log.push(line) });
  tenant = await makeTenant('masked', RULES);
  receiver.onRequest = (request) => {
    const headers = {
      'set-cookie': `sid=${PLANTED['cookie in an answer']}`,
      'x-contact': PLANTED['email in a header'],
      'x-note': `of ${PLANTED['by path']}`,
    };
    const authorization = `Authorization: Basic ${PLANTED['authorization in an answer']}`;
    if (request.path.startsWith('/json')) {
      const echo = `{"got":${request.body.toString()},"nested":${JSON.stringify(request.body.toString())}}`;
      request.respond(200, { ...headers, 'content-type': 'application/json' }, echo);
    } else {
      const text = `unknown ${PLANTED['by path']} / ${PLANTED['by name']}\n${request.body.toString()}\n${authorization}`;
      request.respond(500, headers, text);
    }
  };
  ids = await plant();
});
afterAll(() => Promise.all([posthorn.stop(), receiver.stop()]));

async function makeTenant(slug: string, masking: object) {
  const settings = { allow_unknown_event_types: true, masking };
  const made = await posthorn.call('POST', '/api/v1/tenants', { slug, name: slug, settings });
  expect(made.status, made.text).toBe(201);
  const keys: Record<string, string> = {};
  for (const role of ['owner', 'admin', 'developer', 'viewer']) {
    const as = { 'x-tenant-id': made.body.id };
    keys[role] = (await posthorn.call('POST', '/api/v1/api-keys', { name: role, role }, as)).body.key;
  }
  return { id: made.body.id as string, keys };
}

const callAs = (role: string, method: string, path: string, body?: unknown, headers = {}, of = tenant) =>
  posthorn.call(method, path, body, { authorization: `Bearer ${of.keys[role]}`, ...headers });

async function ask(method: string, path: string, body?: unknown): Promise<Answer['body']> {
  const answer = await callAs('owner', method, path, body);
  expect(answer.status, `${method} ${path}: ${answer.text}`).toBeLessThan(300);
  return answer.body;
}

/** Everything that can hold something of a payload, with the ids by which it is found. */
async function plant(): Promise<Record<string, string>> {
  const webhook = await ask('POST', '/api/v1/webhooks', {
    name: 'Json',
    url: `${receiver.url}/json?token=${PLANTED['token in a URL']}`,
    description: `ask ${PLANTED['email in the webhook']}`,
    metadata: { contact: PLANTED['email in the webhook'] },
    events: ['*'],
    envelope: 'event_type',
    headers: { Authorization: WRITE_ONLY, 'X-Contact': PLANTED['email in a header'] },
  });
  await ask('POST', '/api/v1/webhooks', {
    name: 'Text',
    url: `${receiver.url}/text?token=${PLANTED['token in a URL']}`,
    events: ['*'],
    envelope: 'flat',
    retry_policy: { max_attempts: 1 },
  });
  const type = await ask('POST', '/api/v1/event-types', { name: 'a.type', description: 'Own' });
  await ask(
    'POST',
    '/api/v1/events',
    `{"event_type":"a.type","data":${DATA},"metadata":${METADATA},` +
      `"event_id":"${PLANTED['email as an event id']}","ordering_key":"${PLANTED['by path']}"}`,
  );
  const [event] = (await ask('GET', '/api/v1/events')).data;
  const letters = await eventually(
    () => ask('GET', '/api/v1/dead-letters'),
    ({ data }) => data.length === 1,
  );
  const { data } = await eventually(
    () => ask('GET', `/api/v1/deliveries?webhook_id=${webhook.id}`),
    ({ data: [delivery] }) => delivery.status === 'delivered',
  );
  const replay = await ask('POST', '/api/v1/replays', { since: '2026-01-01T00:00:00Z', until: '2026-01-02T00:00:00Z' });
  const watched = { metric: 'dead_letters', threshold: 1, period: '1h', action: 'alert_operations_team' };
  const rule = await ask('POST', '/api/v1/alerts/rules', watched);
  const incidents = await eventually(
    () => ask('GET', '/api/v1/alerts/incidents'),
    ({ data }) => data.length === 1,
  );
  const erasure = await ask('POST', '/api/v1/erasures', { path: 'who', value: 'nobody' });
  const [key] = (await ask('GET', '/api/v1/api-keys')).data;
  const login = { name: 'Login', issuer: 'https://login.example', audience: 'posthorn', secret: 's'.repeat(32) };
  const issuer = await posthorn.call('POST', '/api/v1/jwt-issuers', login);
  expect(issuer.status, issuer.text).toBe(201);
  const template = await ask('POST', '/api/v1/templates', { name: 'own', template: { a: '{{ data.who }}' } });
  const [entry] = (await ask('GET', '/api/v1/audit')).data;
  return {
    '/api/v1/webhooks/events': type.name,
    '/api/v1/webhooks': webhook.id,
    '/api/v1/event-types': type.name,
    '/api/v1/events': event.id,
    '/api/v1/deliveries': data[0].id,
    '/api/v1/replays': replay.id,
    '/api/v1/erasures': erasure.id,
    '/api/v1/alerts/rules': rule.id,
    '/api/v1/alerts/incidents': incidents.data[0].id,
    '/api/v1/templates': template.id,
    '/api/v1/audit': entry.id,
    '/api/v1/api-keys': key.id,
    '/api/v1/jwt-issuers': issuer.body.id,
    '/api/v1/tenants': tenant.id,
    failed: letters.data[0].delivery_id,
    json: webhook.id,
  };
}

/** What a role is answered on each GET route, once for each thing that the route can be asked for. */
async function everythingFor(role: string): Promise<{ path: string; status: number; text: string }[]> {
  const paths = GETS.flatMap(({ path, canonical }) => {
    const start = Object.keys(ids).find((each) => canonical.replace('/analytics/', '/').startsWith(`${each}/{`));
    if (path.includes('{') && start === undefined) throw new Error(`Say what stands for the parameter of ${path}.`);
    const named = path.replace(/\{[^}]*\}/, ids[start ?? ''] ?? '');
    return canonical === '/api/v1/deliveries/{id}' ? [named, path.replace('{id}', ids.failed ?? '')] : [named];
  });
  const { data } = await ask('GET', '/api/v1/webhooks');
  for (const { id } of data) paths.push(`/api/v1/webhooks/${id}/logs`, `/api/v1/webhooks/${id}`);
  const answers: { path: string; status: number; text: string }[] = [];
  for (const path of paths) {
    const { status, text } = await callAs(role, 'GET', path);
    answers.push({ path, status, text });
  }
  return answers;
}

/** A value as it is, and without what may stand between its digits. */
const spellings = (value: string) => [value, value.replaceAll(/[ +]/g, ''), encodeURIComponent(value)];

const found = (texts: { path: string; text: string }[]) =>
  texts.flatMap(({ path, text }) =>
    Object.entries(PLANTED)
      .filter(([, value]) => spellings(value).some((each) => text.includes(each)))
      .map(([kind]) => `${kind} in ${path}`),
  );

test('receivers got the payload as it was published, to the byte', () => {
  expect(receiver.requests.map(({ path }) => path.split('?')[0]).sort()).toEqual(['/json', '/text']);
  for (const { path, body, headers } of receiver.requests) {
    const text = body.toString();
    if (path.startsWith('/json')) {
      expect(text).toContain(`"data":${DATA},"metadata":${METADATA.slice(0, -1)}`);
      expect(headers.authorization).toBe(WRITE_ONLY);
    } else expect(text.endsWith(`,${DATA.slice(1)}`)).toBe(true);
  }
});

test.each(['viewer', 'developer'])('the role %s finds nothing of it on any route', async (role) => {
  const answers = await everythingFor(role);
  expect(answers.filter(({ status }) => status >= 500)).toEqual([]);
  expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThan(20);
  // Who may change a webhook sees its settings as they are.
  const own = ({ path }: { path: string }) =>
    role === 'developer' &&
    /^(\/api\/(v1|communications)\/webhooks|\/endpoints)(\/whk_[^/]*)?$/.test(path.split('?')[0] as string);
  expect(found(answers.filter((answer) => !own(answer)))).toEqual([]);
  expect(answers.filter(({ text }) => text.includes(WRITE_ONLY))).toEqual([]);
});

test.each(['owner', 'admin'])('the role %s finds all of it, but for what is written only', async (role) => {
  const answers = await everythingFor(role);
  const kinds = new Set(found(answers).map((each) => each.split(' in /')[0]));
  expect(Object.keys(PLANTED).filter((kind) => !kinds.has(kind))).toEqual([]);
  expect(answers.filter(({ text }) => text.includes(WRITE_ONLY))).toEqual([]);
  const event = await callAs(role, 'GET', `/api/v1/events/${ids['/api/v1/events']}`);
  expect(event.text).toContain(`"data":${DATA},"metadata":${METADATA}`);
});

test('what is shown in place of it can be told apart, and what no rule means is as it was published', async () => {
  const { text } = await callAs('viewer', 'GET', `/api/v1/events/${ids['/api/v1/events']}`);
  expect(text).toContain(
    '"data":{"customer":{"address":"***","email":"m***@example.com","phone":"+44 ** **** **58"},' +
      '"card":"****1111","number":"****4444","amount":1.50,"big":12345678901234567890,' +
      '"items":[{"note":"***"}],"IBAN":"***","pass\\u0077ord":"***",' +
      '"log":"tried password=***","nested":"{\\"access_token\\":\\"***\\"}"},' +
      '"metadata":{"by":"b***@example.org","operator":{"name":"***"}}',
  );
  expect(JSON.parse(text)).toMatchObject({ event_id: 'j***@example.net', ordering_key: '***' });
  const { body } = await callAs('viewer', 'GET', `/api/v1/deliveries/${ids['/api/v1/deliveries']}`);
  expect(JSON.parse(body.attempts[0].response_body).got.data.customer.email).toBe('m***@example.com');
  expect(body.attempts[0]).toMatchObject({
    url: `${receiver.url}/json?token=***`,
    response_headers: { 'set-cookie': '***', 'x-contact': 'm***@example.com', 'x-note': 'of ***' },
    request_headers: { authorization: '***', 'x-contact': 'm***@example.com' },
  });
});

test('the log has nothing of it, whatever its level', async () => {
  expect(log.length).toBeGreaterThan(0);
  await callAs('viewer', 'POST', '/api/v1/events', DATA);
  await callAs('owner', 'POST', '/api/v1/events', `{"event_type":"a.type","data":${DATA},"x":1}`);
  await callAs('owner', 'POST', '/api/v1/events', `{"data":${DATA}`);
  expect(found(log.map((line) => ({ path: '/log', text: line })))).toEqual([]);
  expect(log.join('')).not.toContain(WRITE_ONLY);
});

describe('what is masked cannot be guessed', () => {
  test('by a search, which reveals to those who see it', async () => {
    const search = async (role: string, path: string) => (await callAs(role, 'GET', path)).body.data.length;
    expect(await search('owner', '/api/v1/events?q=jane.banks')).toBe(1);
    expect(await search('viewer', '/api/v1/events?q=jane.banks')).toBe(0);
    expect(await search('viewer', '/api/v1/events?q=a.typ')).toBe(1);
    expect(await search('developer', '/api/v1/webhooks?q=url-token-3')).toBe(2);
    expect(await search('viewer', '/api/v1/webhooks?q=url-token-3')).toBe(0);
    expect(await search('viewer', '/api/v1/webhooks?q=ellen')).toBe(0);
    expect(await search('viewer', '/api/v1/webhooks?q=jso')).toBe(1);
  });

  test('by the Idempotency-Key of somebody who saw it', async () => {
    const send = (role: string) =>
      callAs(role, 'POST', `/api/v1/webhooks/${ids.json}/test`, `{"payload":${DATA}}`, { 'idempotency-key': 'k-1' });
    const shown = await send('owner');
    expect(shown.body.request_body).toContain(PLANTED.email);
    expect((await send('admin')).text).toBe(shown.text);
    const refused = await send('developer');
    expect(refused.status).toBe(409);
    expect(found([{ path: '/test', text: refused.text }])).toEqual([]);
  });
});

test('a test send by a role without the right is sent as given and shown masked', async () => {
  const before = receiver.requests.length;
  const answer = await callAs('developer', 'POST', `/api/v1/webhooks/${ids.json}/test`, `{"payload":${DATA}}`);
  expect(answer.status).toBe(200);
  expect(found([{ path: '/test', text: answer.text }])).toEqual([]);
  expect((await receiver.received(before + 1)).at(-1)?.body.toString()).toContain(DATA);
});

test("a tenant without rules masks credentials alone, a change of rules counts at once, and another's do not", async () => {
  const other = await makeTenant('unmasked', {});
  const as = (role: string, method: string, path: string, body?: unknown) =>
    callAs(role, method, path, body, {}, other);
  await as('owner', 'POST', '/api/v1/events', `{"event_type":"a.type","event_id":"e-1","data":${DATA}}`);
  const shown = async () => (await as('viewer', 'GET', '/api/v1/events/e-1')).body.data;
  expect(await shown()).toMatchObject({
    customer: { address: PLANTED['by path'], email: PLANTED.email },
    password: '***',
    log: 'tried password=***',
  });
  const change = (masking: unknown) => posthorn.call('PATCH', `/api/v1/tenants/${other.id}`, { settings: { masking } });
  await change({ paths: ['customer'] });
  expect(await shown()).toMatchObject({ customer: '***', card: PLANTED.card });
  await change({ detectors: ['card'] });
  expect(await shown()).toMatchObject({ customer: '***', card: '****1111' });
  await change(null);
  expect(await shown()).toMatchObject({ customer: { email: PLANTED.email }, card: PLANTED.card });
});
