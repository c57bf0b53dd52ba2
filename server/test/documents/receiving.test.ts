import { execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type ReceivedRequest, startReceiver } from '../../src/testing/receiver.ts';
import { type DocumentTenant, openTenant } from './document-tenant.ts';
import { DOCUMENTS, namesOf } from './documents.ts';
import { openGuide } from './guide-code.ts';
import { changed, hasPython } from './printed-code.ts';

/** docs/receiving.md: its programs run, and its tables are true. */
const guide = openGuide('receiving.md');
let posthorn: TestPosthorn;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(async () => {
  await guide.remove();
  await posthorn.stop();
});
let count = 0;
let tenant: DocumentTenant;
beforeEach(async () => {
  count += 1;
  tenant = await openTenant(posthorn, `guide-${count}`, 'whatsapp-crm');
});

const HANDLED = /^handled (\S+) (.*)$/;

describe.each([['receiver.mjs'], ...(hasPython ? [['receiver.py']] : [])])('the receiver %s', (name) => {
  let inbox = '';
  beforeEach(() => {
    inbox = path.join(guide.folder, `inbox-${name}-${count}.db`);
  });
  const start = (secret: string, env: Record<string, string> = {}) =>
    guide.start(name, { WEBHOOK_SECRET: secret, INBOX: inbox, ...env });

  /** What it has handled, once there is as much. */
  const handled = async (lines: () => string[], wanted: number) => {
    const all = await eventually(
      async () => lines().flatMap((line) => [HANDLED.exec(line) ?? []].filter((found) => found.length > 0)),
      (found) => found.length >= wanted,
    );
    return all.map(([, id, event = '']) => ({ id, event: JSON.parse(event) }));
  };

  test.each(['a secret of our own', 'pässwort-漢字', `whsec_${Buffer.alloc(32, 5).toString('base64')}`])(
    'accepts what the secret %s signs, and handles it',
    async (secret) => {
      const receiver = await start(secret);
      const { id } = await tenant.createWebhook(receiver.url, { secret });
      const data = { message: { id: 'm_1', text: 'ß 😀' } };
      const event = await tenant.publish({ event_type: 'message.new', data });
      await tenant.delivery(event.id, id, 'delivered');
      expect(await handled(receiver.lines, 1)).toEqual([
        { id: event.id, event: { event: 'message.new', timestamp: expect.any(String), data } },
      ]);
    },
  );

  test('handles once what comes twice, also after a restart, and each event of a batch', async () => {
    const secret = 'a secret of our own';
    const first = await start(secret);
    const { id } = await tenant.createWebhook(first.url, { secret, batching: { enabled: true, max_wait_ms: 50 } });
    const events = [1, 2, 3].map((n) => ({ event_type: 'message.new', data: { n } }));
    const batch = await tenant.call('POST', '/api/v1/events/batch', { events });
    expect(batch.status).toBe(202);
    const ids = batch.body.data.map((row: Answer['body']) => row.id);
    await tenant.delivery(ids[2], id, 'delivered');
    expect((await handled(first.lines, 3)).map((each) => each.id).sort()).toEqual([...ids].sort());
    await first.kill();

    const second = await start(secret);
    await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { url: second.url });
    await tenant.call('POST', `/api/v1/events/${ids[0]}/replay`);
    const fresh = await tenant.publish({ event_type: 'message.read', data: {} });
    await tenant.delivery(fresh.id, id, 'delivered');
    await eventually(
      async () => (await tenant.call('GET', `/api/v1/deliveries?event_id=${ids[0]}`)).body.data,
      (rows) => rows.length === 2 && rows.every((row: Answer['body']) => row.status === 'delivered'),
    );
    expect((await handled(second.lines, 1)).map((each) => each.id)).toEqual([fresh.id]);
  });

  test('refuses what was changed, is old, is signed with another secret, or not signed, and accepts a rotation', async () => {
    const secret = 'a secret of our own';
    const { url, lines } = await start(secret);
    const recorder = await startReceiver();
    const { id } = await tenant.createWebhook(recorder.url, { secret });
    await tenant.publish({ event_type: 'message.new', data: { n: 1 } });
    const [request] = (await recorder.received(1)) as [ReceivedRequest];
    const send = async ({ headers, body }: Pick<ReceivedRequest, 'headers' | 'body'>, changes: object = {}) => {
      const { host: _, connection: __, 'content-length': ___, ...sent } = headers;
      const all = Object.entries({ ...sent, ...changes }).filter(([, value]) => value !== undefined);
      const response = await fetch(url, {
        method: 'POST',
        headers: Object.fromEntries(all) as Record<string, string>,
        body: new Uint8Array(body),
      });
      await response.arrayBuffer();
      return response.status;
    };
    const signedAt = (seconds: number, key = secret) => {
      const timestamp = String(Math.floor(Date.now() / 1000) + seconds);
      const hmac = createHmac('sha256', key).update(`${request.headers['webhook-id']}.${timestamp}.`);
      return {
        'webhook-timestamp': timestamp,
        'webhook-signature': `v1,${hmac.update(request.body).digest('base64')}`,
      };
    };
    expect(await send(changed(request))).toBe(401);
    for (const changes of [
      signedAt(-400),
      signedAt(400),
      signedAt(0, 'another secret'),
      { 'webhook-id': 'evt_other' },
      { 'webhook-signature': undefined },
      { 'webhook-signature': 'v1,' },
      { 'webhook-signature': 'v1a,xxxx' },
      { 'webhook-timestamp': undefined },
      { 'webhook-timestamp': 'NaN' },
      { 'webhook-id': undefined },
    ]) {
      expect(await send(request, changes), JSON.stringify(changes)).toBe(401);
    }
    const rotation = { secret: 'the secret after it', grace_period_seconds: 3600 };
    await tenant.call('POST', `/api/v1/webhooks/${id}/secret/rotate`, rotation);
    await tenant.publish({ event_type: 'message.new', data: { n: 2 } });
    const [, rotated] = (await recorder.received(2)) as [ReceivedRequest, ReceivedRequest];
    await recorder.stop();
    expect([await send(request, signedAt(0)), await send(rotated)]).toEqual([204, 204]);
    const texts = (await handled(lines, 2)).map(({ event }) => event.data);
    expect(texts).toEqual([{ n: 1 }, { n: 2 }]);
  });

  test('refuses every address but those that it is told of', async () => {
    const secret = 'a secret of our own';
    for (const [WEBHOOK_SOURCES, is_success, response_status] of [
      ['192.0.2.1', false, 403],
      ['192.0.2.1,127.0.0.1', true, 204],
    ] as const) {
      const receiver = await start(secret, { WEBHOOK_SOURCES });
      const { id } = await tenant.createWebhook(receiver.url, { secret });
      const attempt = await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
      expect(attempt.body).toMatchObject({ is_success, response_status });
    }
  });
});

describe.each(DOCUMENTS)('the signature of the body alone, of $preset', ({ preset, signature }) => {
  test('is accepted by the code of the guide, has the form of its table, and is refused for another body', async () => {
    const own = await openTenant(posthorn, `guide-${count}`, preset, 'staging');
    const receiver = await startReceiver();
    const { secret } = await own.createWebhook(receiver.url);
    await own.publish({ event_type: namesOf(DOCUMENTS.find((each) => each.preset === preset) as never)[0], data: {} });
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    await receiver.stop();
    const given = String(request.headers['x-webhook-signature']);
    const [, form = ''] = guide.table('preset').find(([presets = '']) => presets.split(', ').includes(preset)) ?? [];
    expect(given).toMatch(new RegExp(`^${form.replace('<hex>', '[0-9a-f]{64}')}$`));
    expect(given).toBe(signature(request.body, secret));
    const { verifyBody } = await import(path.join(guide.folder, 'verify-body.mjs'));
    const cases = [
      [request.body, given, secret],
      [changed(request).body, given, secret],
      [request.body, given, `${secret}!`],
      [request.body, '', secret],
    ] as const;
    expect(cases.map((each) => verifyBody(...each))).toEqual([true, false, false, false]);
    if (!hasPython) return;
    const calls = cases.map(
      ([body, text, key]) => `verify_body(${pythonBytes(body)}, ${pythonText(text)}, ${pythonText(key)})`,
    );
    const { stdout } = await runPython(`from verify_body import verify_body\nprint([${calls.join(', ')}])`);
    expect(stdout.trim()).toBe('[True, False, False, False]');
  });
});

test('the waits that the guide names are those of the presets', () => {
  const [, rows = ''] = guide.text.split('| preset | attempts | waits |\n|---|---|---|\n');
  const named = rows
    .split('\n\n')[0]
    ?.split('\n')
    .map((row) => row.replaceAll('`', '').slice(2, -2).split(' | '));
  expect(named).toEqual(DOCUMENTS.map(({ preset, waits }) => [preset, String(waits.length + 1), waits.join(', ')]));
});

describe('when something does not arrive', () => {
  const classes = guide.table('`error_class`');

  test('the guide has every class of errors', () => {
    const all = ['dns', 'connect', 'tls', 'timeout', 'reset', 'blocked', 'response', 'template', 'internal'];
    expect(classes.map(([name]) => name)).toEqual(all);
  });

  /** A webhook, and what its receiver does with its request. */
  const faults: Record<string, [fields: object, answer: (request: ReceivedRequest) => void]> = {
    dns: [{ url: 'https://no-such-host.invalid/hook' }, () => {}],
    connect: [{}, () => {}],
    tls: [{}, () => {}],
    timeout: [{ timeout_seconds: 1 }, () => {}],
    reset: [{}, (request) => request.reset()],
    blocked: [
      { transformation: { enabled: true, language: 'javascript', template: '() => ({ url: "http://10.0.0.1/" })' } },
      () => {},
    ],
    response: [{}, (request) => request.respond(405)],
    template: [
      { transformation: { enabled: true, language: 'javascript', template: '(event) => ({ body: event.data.a.b })' } },
      () => {},
    ],
  };

  test.each(Object.entries(faults))('an attempt that ends with %s says what the guide quotes', async (name, fault) => {
    const [fields, answer] = fault;
    const receiver = await startReceiver();
    receiver.onRequest = answer;
    const url = name === 'tls' ? receiver.url.replace('http:', 'https:') : receiver.url;
    const { id } = await tenant.createWebhook(url, fields);
    if (name === 'connect') await receiver.stop();
    await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
    const { data } = (await tenant.call('GET', `/api/v1/webhooks/${id}/logs`)).body;
    if (name !== 'connect') await receiver.stop();
    expect(data).toMatchObject([{ error_class: name, is_success: false }]);
    const [, quoted = ''] = classes.find(([each]) => each === name) ?? [];
    expect(quoted.split(', or: ').some((beginning) => data[0].error_message.startsWith(beginning))).toBe(true);
  });

  test('what made no attempt says why', async () => {
    const gone = await startReceiver();
    await gone.stop();
    const event = { event_type: 'message.new', data: { n: 1 } };
    expect(await tenant.publish(event)).toMatchObject({ status: 'no_subscribers' });

    const filters = [{ field_path: 'data.n', operator: 'equals', value: 2 }];
    const { id: filtering } = await tenant.createWebhook(gone.url, { filters });
    await tenant.publish(event);
    const webhook = await eventually(
      async () => (await tenant.call('GET', `/api/v1/webhooks/${filtering}`)).body,
      (body) => body.filtered_deliveries === 1,
    );
    expect(webhook.total_deliveries).toBe(0);
    const trial = await tenant.call('POST', '/api/v1/filters/test', { filters, data: event.data });
    expect(trial.body.matches).toBe(false);

    const { id: paused } = await tenant.createWebhook(gone.url);
    await tenant.call('POST', `/api/v1/webhooks/${paused}/pause`);
    const { id } = await tenant.publish(event);
    await tenant.delivery(id, paused, 'held');
    expect((await tenant.call('GET', `/api/v1/webhooks/${paused}`)).body).toMatchObject({
      is_active: false,
      status: 'paused',
      status_reason: 'manual',
    });

    const policy = { retry_policy: { schedule_seconds: [3600], jitter: 0 } };
    const { id: failing } = await tenant.createWebhook(gone.url, policy);
    const waiting = await tenant.delivery((await tenant.publish(event)).id, failing, 'failed');
    expect(Date.parse(waiting.next_attempt_at)).toBeGreaterThan(Date.now());
  });
});

const pythonText = (text: string) => JSON.stringify(text);
const pythonBytes = (bytes: Buffer) => `bytes.fromhex("${bytes.toString('hex')}")`;

function runPython(program: string): Promise<{ stdout: string }> {
  return promisify(execFile)('python3', ['-c', program], { cwd: guide.folder });
}
