import { Webhook } from 'standardwebhooks';
import { describe, expect, test } from 'vitest';
import type { ReceivedRequest } from '../../src/testing/receiver.ts';
import { receiver, tenant, testDocument } from './document-fixture.ts';
import {
  changed,
  hasPython,
  ispCommunicationsReceiver,
  type PrintedAnswer,
  pythonVerdicts,
  startIspCommunicationsReceiver,
} from './printed-code.ts';

/** What isp-communications.md says beyond its events: its requests, its logs, and the receiver that it prints. */
testDocument('isp-communications');

/** The printed body of "Register a webhook". */
const registration = () => ({
  name: 'Customer Portal Webhook',
  url: `${receiver.url}/webhooks/isp`,
  events: ['message.created', 'notification.created'],
  is_active: true,
  secret: 'your_webhook_secret',
  headers: { 'X-Custom-Header': 'Custom Value' },
  description: 'Webhook for the customer portal',
});

test('the printed registration is taken and answered with every field of it', async () => {
  const answer = await tenant.call('POST', '/api/v1/webhooks', registration());
  expect(answer.status).toBe(201);
  expect(answer.body).toMatchObject(registration());
});

test('the path may end with a slash, as it is printed', async () => {
  expect((await tenant.call('POST', '/api/v1/webhooks/', registration())).status).toBe(201);
  expect((await tenant.call('GET', '/api/v1/webhooks/')).body.data).toHaveLength(1);
});

test('the printed update changes name and activity and leaves the rest', async () => {
  const { secret: _, ...webhook } = await tenant.createWebhook('', registration());
  const change = { name: 'Updated Webhook Name', is_active: false };
  const answer = await tenant.call('PUT', `/api/v1/webhooks/${webhook.id}`, change);
  expect(answer.status).toBe(200);
  const off = { status: 'disabled', status_reason: 'manual' };
  expect(answer.body).toEqual({ ...webhook, ...change, ...off, updated_at: expect.any(String) });
});

test('the list is filtered by `event` and `active_only`', async () => {
  const create = (name: string, fields: object) => tenant.createWebhook(receiver.url, { name, ...fields });
  await create('exact', { events: ['message.created'] });
  await create('prefix', { events: ['message.*'] });
  await create('all', { events: ['*'] });
  await create('other', { events: ['ticket.created'] });
  await create('off', { events: ['message.created'], is_active: false });
  const listed = async (query: string) =>
    (await tenant.call('GET', `/api/v1/webhooks?${query}`)).body.data.map(({ name }: { name: string }) => name).sort();
  expect(await listed('event=message.created')).toEqual(['all', 'exact', 'off', 'prefix']);
  expect(await listed('event=message.created&active_only=true')).toEqual(['all', 'exact', 'prefix']);
  expect(await listed('active_only=true')).toEqual(['all', 'exact', 'other', 'prefix']);
  expect(await listed('active_only=false')).toHaveLength(5);
});

describe('the printed receiver', () => {
  /** Answers every request as the printed code does, and keeps what it did. */
  function runPrintedCode(): PrintedAnswer[] {
    const answers: PrintedAnswer[] = [];
    const receive = ispCommunicationsReceiver();
    receiver.onRequest = (request) => {
      const answer = receive(request);
      answers.push(answer);
      request.respond(answer.status, { 'content-type': 'application/json' }, JSON.stringify(answer.body));
    };
    return answers;
  }

  const message = {
    subject: 'Outage on “Elm” ☂ \u2028 😀',
    content: 'a\tb\\"c',
    nested: [{}, [], null, 1.5, -0.25, 1e21],
  };

  test('accepts what is delivered, finds its fields, and the delivery is done', async () => {
    const answers = runPrintedCode();
    const webhook = await tenant.createWebhook('', registration());
    const event = await tenant.publish({ event_type: 'message.created', data: message });
    expect(await tenant.delivery(event.id, webhook.id, 'delivered')).toMatchObject({ response_status: 200 });
    expect(answers).toEqual([
      {
        status: 200,
        body: { status: 'success' },
        log: ['Received webhook: message.created', `New message: ${message.subject}`],
      },
    ]);
    expect(receiver.requests[0]?.headers['x-custom-header']).toBe('Custom Value');
  });

  test('accepts data that was published with white space between its tokens', async () => {
    const answers = runPrintedCode();
    const webhook = await tenant.createWebhook('', registration());
    const data = JSON.stringify({ ...message, title: 'two  spaces \n stay' }, null, 2).replaceAll('\n', '\r\n\t ');
    const event = await tenant.publish(`{ "event_type": "notification.created",\n "data" : ${data} }`);
    await tenant.delivery(event.id, webhook.id, 'delivered');
    expect(answers).toMatchObject([{ status: 200, log: [expect.any(String), expect.stringContaining('two  spaces')] }]);
  });

  test('accepts tests with a payload that has white space', async () => {
    const answers = runPrintedCode();
    const { id } = await tenant.createWebhook('', registration());
    const body = '{\n  "event_type": "message.created",\n  "payload": { "subject": "Hello" }\n}';
    expect((await tenant.call('POST', `/api/v1/webhooks/${id}/test`, body)).body).toMatchObject({
      is_success: true,
      response_body: '{"status":"success"}',
    });
    expect(answers).toMatchObject([{ status: 200 }]);
  });

  test('run as a program as it is printed accepts what is delivered, and prints its fields', async () => {
    const program = await startIspCommunicationsReceiver();
    try {
      const webhook = await tenant.createWebhook('', { ...registration(), url: `${program.url}/webhooks/isp` });
      const data = '{"subject":"Caf\\u00e9 \\/ \ud83d\ude00","total":2.0,"\\u00fc":[1e2,-0.0],"10":"a","9":"b"}';
      const event = await tenant.publish(`{"event_type":"message.created","data":${data}}`);
      expect(await tenant.delivery(event.id, webhook.id, 'delivered')).toMatchObject({ response_status: 200 });
      expect(program.output()).toContain('Received webhook: message.created\nNew message: Café / 😀\n');
      await tenant.call('PATCH', `/api/v1/webhooks/${webhook.id}`, { secret: 'another secret' });
      const refused = await tenant.call('POST', `/api/v1/webhooks/${webhook.id}/test`);
      expect(refused.body).toMatchObject({ response_status: 401, response_body: '{"error":"Invalid signature"}' });
    } finally {
      await program.stop();
    }
  });

  // JSON.stringify of what such a receiver has parsed is not the text that was published.
  const RESPELLED = [
    ['a fraction of nothing', '{"total":2.0}', '"total":2'],
    ['escapes of letters', '{"subject":"Caf\\u00e9 \\/"}', '"subject":"Café /"'],
    ['an exponent', '{"n":1.50E+3}', '"n":1500'],
    ['names that are numbers', '{"b":1,"10":2,"9":3}', '"9":3,"10":2,'],
    ['a name twice', '{"a":1,"b":2,"a":3}', '"a":3,"b":2'],
  ] as const;

  test.each(RESPELLED)('and the printed Python code accept %s, as JavaScript spells it', async (_, data, sent) => {
    const { id } = await tenant.createWebhook('', registration());
    const event = await tenant.publish(`{"event_type":"message.created","data":${data}}`);
    await tenant.delivery(event.id, id, 'delivered');
    const [request] = receiver.requests as [ReceivedRequest];
    expect(request.body.toString()).toContain(sent);
    expect(ispCommunicationsReceiver()(request).status).toBe(200);
    if (hasPython) expect(pythonVerdicts('isp-communications', 'your_webhook_secret', [request])).toEqual([true]);
    // What was sent is what is shown, and what both signatures are of.
    const [log] = (await tenant.call('GET', `/api/v1/webhooks/${id}/logs`)).body.data;
    expect(log.request_body).toBe(request.body.toString());
    const standard = new Webhook('your_webhook_secret', { format: 'raw' });
    expect(() => standard.verify(request.body.toString(), request.headers as Record<string, string>)).not.toThrow();
  });

  test('gets a number that JavaScript cannot hold as it was published, and refuses it', async () => {
    await tenant.createWebhook('', registration());
    const data = '{"account":12345678901234567890,"total":2.0}';
    await tenant.publish(`{"event_type":"message.created","data":${data}}`);
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    expect(request.body.toString()).toContain(data.slice(1));
    expect(ispCommunicationsReceiver()(request).status).toBe(401);
    if (hasPython) expect(pythonVerdicts('isp-communications', 'your_webhook_secret', [request])).toEqual([true]);
  });

  test('a webhook may have its bodies as published, and a webhook of another preset as JavaScript spells them', async () => {
    const published = { name: 'Raw', url: `${receiver.url}/published`, signature: { body_spelling: 'published' } };
    const { id, signature } = await tenant.createWebhook('', { ...registration(), ...published });
    expect(signature).toMatchObject({ method: 'hmac_sha256_hex', body_spelling: 'published' });
    const respelled = { preset: 'whatsapp-crm', signature: { body_spelling: 'json_stringify' } };
    await tenant.createWebhook(`${receiver.url}/respelled`, { ...respelled, secret: 'your_webhook_secret' });
    await tenant.publish('{"event_type":"message.created","data":{"n":2.0}}');
    const requests = await receiver.received(2);
    const bodyAt = (path: string) => requests.find((each) => each.path === path)?.body.toString();
    expect(bodyAt('/published')).toContain('"n":2.0}');
    expect(bodyAt('/respelled')).toContain('"data":{"n":2}}');
    // null gives the preset's word back.
    const back = await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { signature: { body_spelling: null } });
    expect(back.body.signature.body_spelling).toBe('json_stringify');
    const wrong = await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { signature: { body_spelling: 'other' } });
    expect(wrong.status).toBe(422);
  });

  test('refuses a delivery signed with another secret, and the attempt says so', async () => {
    runPrintedCode();
    const { id } = await tenant.createWebhook('', { ...registration(), secret: 'not_the_secret' });
    expect((await tenant.call('POST', `/api/v1/webhooks/${id}/test`)).body).toMatchObject({
      is_success: false,
      response_status: 401,
      response_body: '{"error":"Invalid signature"}',
    });
  });

  test('refuses a delivery whose body was changed', async () => {
    await tenant.createWebhook('', registration());
    await tenant.publish({ event_type: 'message.created', data: message });
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    const receive = ispCommunicationsReceiver();
    expect(receive(request).status).toBe(200);
    expect(receive({ ...request, body: Buffer.from(request.body.toString().replace('Elm', 'Oak')) }).status).toBe(401);
    expect(receive(changed(request)).status).toBe(401);
  });
});

describe('the flat payload', () => {
  test('keeps its own `event` and `timestamp` when the data has members of these names', async () => {
    await tenant.createWebhook(receiver.url);
    const data = { event: 'forged', subject: 'Hello', timestamp: 'never' };
    const timestamp = '2023-06-15T12:34:56.789Z';
    await tenant.publish({ event_type: 'message.created', timestamp, data });
    const [request] = await receiver.received(1);
    expect(request?.body.toString()).toBe(JSON.stringify({ event: 'message.created', timestamp, subject: 'Hello' }));
  });
});

describe('logs', () => {
  test('hold payload, headers, status, answer, success and error of each attempt', async () => {
    receiver.onRequest = (request) => request.respond(500, { 'x-reason': 'test' }, 'broken');
    const { id } = await tenant.createWebhook('', registration());
    await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
    const { data } = (await tenant.call('GET', `/api/v1/webhooks/${id}/logs`)).body;
    const [request] = receiver.requests as [ReceivedRequest];
    expect(data).toMatchObject([
      {
        request_body: request.body.toString(),
        request_headers: {
          'content-type': 'application/json',
          'x-custom-header': 'Custom Value',
          'x-webhook-event': 'message.created',
        },
        response_status: 500,
        response_headers: { 'x-reason': 'test' },
        response_body: 'broken',
        is_success: false,
        error_message: expect.stringContaining('500'),
      },
    ]);
  });

  test('are filtered by success_only: true the successes, false the failures, absent both', async () => {
    const { id } = await tenant.createWebhook('', registration());
    for (const status of [200, 500, 204]) {
      receiver.onRequest = (request) => request.respond(status);
      await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
    }
    const statuses = async (query: string) =>
      (await tenant.call('GET', `/api/v1/webhooks/${id}/logs${query}`)).body.data.map(
        ({ response_status }: { response_status: number }) => response_status,
      );
    expect(await statuses('?success_only=true')).toEqual([204, 200]);
    expect(await statuses('?success_only=false')).toEqual([500]);
    expect(await statuses('')).toEqual([204, 500, 200]);
  });
});

test('message.created carries the id, subject, content, sender and recipient of the message beside event and timestamp', async () => {
  await tenant.createWebhook(receiver.url);
  const type = await tenant.call('GET', '/api/v1/webhooks/events/message.created');
  expect(Object.keys(type.body.schema.properties)).toEqual(
    expect.arrayContaining(['message_id', 'subject', 'content', 'sender', 'recipient']),
  );
  await tenant.publish({ event_type: 'message.created', data: type.body.sample });
  const [request] = await receiver.received(1);
  expect(JSON.parse(request?.body.toString() ?? '')).toMatchObject({
    event: 'message.created',
    timestamp: expect.any(String),
    message_id: expect.any(Number),
    subject: expect.any(String),
    content: expect.any(String),
    sender: { name: expect.any(String) },
    recipient: { name: expect.any(String) },
  });
});
