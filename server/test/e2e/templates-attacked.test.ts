import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { queryDatabase } from '../program/folder.ts';
import { ask, createTemplate, createWebhook, ended, hook, posthorn, publish, receiver } from './templates-fixture.ts';

/** Templates and transforms as somebody would write them who wants harm, and people who change them at the same time. */
const scripted = (template: string, fields: object = {}) =>
  createWebhook({
    transformation: { template, language: 'javascript' },
    retry_policy: { schedule_seconds: [0] },
    ...fields,
  });
const query = (sql: string) => queryDatabase(posthorn.database.connection, sql);

/** Runs `meanwhile` while a transaction that began with `sql` is open and something waits for it, which is then ended. */
async function whileOpen<T>(sql: string, meanwhile: () => Promise<T>, ending: string): Promise<T> {
  const client = new pg.Client(posthorn.database.connection);
  await client.connect();
  try {
    await client.query(`BEGIN; ${sql}`);
    const waiting = meanwhile();
    await eventually(
      () => query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"),
      (rows) => rows.length > 0,
    );
    await client.query(`${ending}; COMMIT`);
    return await waiting;
  } finally {
    await client.end();
  }
}

describe('what a transform makes', () => {
  test.each([
    ['a name with U+0000', "{ headers: { 'a\\u0000b': 'x' } }", 'headers'],
    ['a name of the event', "{ headers: { [event.data.mail + ' ']: 'x' } }", 'headers'],
    ['a value of two lines', "{ headers: { 'X-A': 'a\\r\\nx-admin: 1' } }", 'headers.X-A'],
    ['half a surrogate pair', "{ headers: { 'X-A': '\\ud800' } }", 'headers.X-A'],
    ['an error with the event in it', '{ get body() { throw new Error(event.data.mail) } }', 'line 1'],
    ['a huge error', "{ get body() { throw new SyntaxError('x'.repeat(5e5)) } }", 'SyntaxError'],
  ])('with %s fails that delivery alone, and its record tells nothing of the event', async (_, made, place) => {
    await scripted(`(event) => (event.data.mail === undefined ? {} : ${made})`);
    const bad = await publish({ mail: 'anna@example.com' });
    const good = await publish({});
    await ended(good.id, 'delivered');
    const { attempts } = await ended(bad.id, 'dead');
    expect(attempts[0]).toMatchObject({ error_class: 'template', error_message: expect.stringContaining(place) });
    expect(attempts[0].error_message).not.toContain('anna');
    expect(attempts[0].error_message.length).toBeLessThan(300);
    expect(receiver.requests).toHaveLength(1);
  });

  test.each([
    'http://user:secret@127.0.0.1/',
    'http://127.0.0.1:25/',
    `http://127.0.0.1/${'x'.repeat(5_000)}`,
    'http://127.0.0.1/a\u0000b',
    'http://metadata.google.internal/',
  ])('cannot send to %s', async (url) => {
    await scripted(`() => ({ url: ${JSON.stringify(url)} })`);
    const { attempts } = await ended((await publish({})).id, 'dead');
    expect(attempts[0]).toMatchObject({ error_class: 'blocked', url: `${receiver.url}/` });
  });

  test('may have a header of any name that a header can have', async () => {
    await scripted('() => ({ headers: { ["__proto__"]: "a", "constructor": "b", "toString": "c" } })');
    const { attempts } = await ended((await publish({})).id, 'delivered');
    const [request] = await receiver.received(1);
    expect(Object.entries(request?.headers ?? {})).toEqual(
      expect.arrayContaining([
        ['constructor', 'b'],
        ['tostring', 'c'],
      ]),
    );
    expect(attempts[0].request_headers).toMatchObject({ constructor: 'b', tostring: 'c' });
  });

  test('is sent as UTF-8, with what cannot be in it replaced', async () => {
    await scripted('() => ({ body: "a\\u0000\\ud800b" })', {});
    await ask('PATCH', `/api/v1/webhooks/${(await ask('GET', '/api/v1/webhooks')).data[0].id}`, {
      transformation: { content_type: 'text/plain' },
    });
    const { attempts } = await ended((await publish({})).id, 'delivered');
    expect((await receiver.received(1))[0]?.body.toString()).toBe('a\0\ufffdb');
    expect(attempts[0].request_body).toBe('a\0\ufffdb');
  });
});

describe('values of an event', () => {
  const hostile = '","admin":true,"x":"\\\n\u2028\u0001#0\u0002😀';

  test.each([
    ['a text of JSON', '{"a": "{% filter trim %}{{ data.x }}{% endfilter %}", "b": {{ data.x|trim }}}'],
    ['a JSON object', { a: '{% filter trim %}{{ data.x }}{% endfilter %}', b: '{{ data.x|trim }}' }],
  ])('stay in their places in %s', async (_, template) => {
    await createWebhook({ transformation: { template } });
    await publish({ x: hostile });
    const [request] = await receiver.received(1);
    expect(JSON.parse(request?.body.toString() ?? '')).toEqual({ a: hostile, b: hostile });
  });

  test('keep the spelling of their numbers', async () => {
    const template = { a: '{{ data.a }}', b: '{{ data.b }}', c: '{{ data.c }}', text: '{{ data.a }} {{ data.b }}' };
    await createWebhook({ transformation: { template, native: true } });
    const body = '{"event_type":"lead.created","data":{"a":1.0,"b":18446744073709551615,"c":1E400}}';
    const answer = await posthorn.call('POST', '/api/v1/events', body, { 'content-type': 'application/json' });
    expect(answer.status).toBe(202);
    const [request] = await receiver.received(1);
    expect(request?.body.toString()).toBe(
      '{"a":1.0,"b":18446744073709551615,"c":1E400,"text":"1.0 18446744073709551615"}',
    );
  });
});

test('the URL that a transform made of an event goes with its payload, but for its host', async () => {
  const template = `(event) => ({ url: '${receiver.url}/people?mail=' + event.data.mail })`;
  const other = await createWebhook({ url: `${receiver.url}/own/path` });
  await scripted(template);
  const removed = await publish({ mail: 'anna@example.com' });
  const erased = await publish({ mail: 'bert@example.com' });
  await receiver.received(4);
  for (const { id } of [removed, erased]) {
    await eventually(
      async () => (await ask('GET', `/api/v1/deliveries?event_id=${id}`)).data,
      (data) => data.length === 2 && data.every((each: { status: string }) => each.status === 'delivered'),
    );
  }
  expect(JSON.stringify(await query('SELECT url FROM attempts'))).toMatch(/anna.*bert|bert.*anna/);
  await ask('DELETE', `/api/v1/events/${removed.id}/payload`, undefined, 204);
  const { id } = await ask('POST', '/api/v1/erasures', { path: 'mail', value: 'bert@example.com' }, 202);
  await eventually(
    () => ask('GET', `/api/v1/erasures/${id}`),
    ({ status }) => status === 'completed',
  );
  for (const event of [removed, erased]) {
    for (const delivery of (await ask('GET', `/api/v1/deliveries?event_id=${event.id}`)).data) {
      const { attempts } = await ask('GET', `/api/v1/deliveries/${delivery.id}`);
      expect(attempts[0].url).toBe(delivery.webhook_id === other.id ? other.url : `${receiver.url}/`);
    }
  }
});

describe('a trial', () => {
  const tried = async (fields: object, sample: object) => {
    const { id } = await createTemplate({ name: 'tried', ...fields });
    const answer = await ask('POST', `/api/v1/templates/${id}/test`, { sample });
    await ask('DELETE', `/api/v1/templates/${id}`, undefined, 204);
    return answer;
  };
  const script = (template: string) => ({ template, language: 'javascript' });

  test('fails where a delivery would, and says where', async () => {
    const lines = { 'X-Name': '{{ data.name }}' };
    expect(await tried({ headers: lines }, { name: 'a\r\nb' })).toMatchObject({
      success: false,
      body: null,
      error: { kind: 'output', path: 'headers.X-Name' },
    });
    for (const [source, error] of [
      ["() => ({ headers: { 'Webhook-Id': 'x' } })", { kind: 'output', path: 'headers.Webhook-Id' }],
      ["() => ({ url: 'http://10.0.0.1/' })", { kind: 'output', path: 'url' }],
      ['() => { for (;;); }', { kind: 'limit' }],
    ] as const) {
      expect(await tried(script(source), {})).toMatchObject({ success: false, error });
    }
  });

  test('shows headers as they would be sent', async () => {
    const headers = { 'X-A': ' {{ data.a }} ', 'X-None': '{{ data.none }}' };
    expect(await tried({ headers }, { a: 1 })).toMatchObject({ success: true, headers: { 'X-A': '1' } });
    const twice = await tried(script("() => ({ headers: { 'X-A': '1', 'x-a': '2' } })"), {});
    expect(twice.headers).toEqual({ 'x-a': '2' });
  });

  test('takes the sample of the type that the template is for', async () => {
    const type = { name: 'trial.own', group: 'T', description: 'T', sample: { n: 7 } };
    await ask('POST', '/api/v1/event-types', type, 201);
    const { id } = await createTemplate({ name: 'own', event_type: 'trial.own', template: { n: '{{ data.n }}' } });
    expect(await ask('POST', `/api/v1/templates/${id}/test`, {})).toMatchObject({
      event_type: 'trial.own',
      body: '{"n":"7"}',
    });
  });
});

describe('changes at the same time', () => {
  test('a template that is deleted while a webhook comes to name it is not named', async () => {
    const { id } = await createTemplate({ name: 'fleeting' });
    const webhook = await createWebhook();
    for (const [method, path, status] of [
      ['POST', '/api/v1/webhooks', 422],
      ['PATCH', `/api/v1/webhooks/${webhook.id}`, 422],
    ] as const) {
      const transformation = { template: method === 'POST' ? 'fleeting' : id };
      if (method === 'PATCH') await query("UPDATE templates SET name = 'fleeting'");
      const { error } = await whileOpen(
        "SELECT FROM templates WHERE name = 'fleeting' FOR UPDATE",
        () => ask(method, path, method === 'POST' ? hook({ transformation }) : { transformation }, status),
        method === 'POST' ? "UPDATE templates SET name = 'other'" : 'DELETE FROM templates',
      );
      expect(error.details.fields).toMatchObject([{ path: 'transformation.template' }]);
    }
    await ask('PATCH', `/api/v1/webhooks/${webhook.id}`, { description: 'still there' });
  });

  test('a name that another takes meanwhile is refused', async () => {
    const { id } = await createTemplate({ name: 'first' });
    await createTemplate({ name: 'second' });
    const { error } = await whileOpen(
      "UPDATE templates SET name = 'wanted' WHERE name = 'second'",
      () => ask('PATCH', `/api/v1/templates/${id}`, { name: 'wanted' }, 409),
      'SELECT',
    );
    expect(error.code).toBe('template_exists');
  });

  test('of two changes of what a template says, the one that was judged on what is gone is refused', async () => {
    const { id } = await createTemplate({ name: 'shared', template: { v: 1 } });
    const { error } = await whileOpen(
      `INSERT INTO template_versions SELECT tenant_id, template_id, 2, content, created_at FROM template_versions;
       UPDATE templates SET version = 2, last_version = 2`,
      () => ask('PATCH', `/api/v1/templates/${id}`, { template: { v: 2 } }, 409),
      'SELECT',
    );
    expect(error.code).toBe('template_changed');
  });
});

test('a version that can no longer be run is not put in force again', async () => {
  const { id } = await createTemplate({ name: 'old', template: { v: '{{ data.v }}' } });
  await ask('PATCH', `/api/v1/templates/${id}`, { template: { v: 2 } });
  const gone = {
    template: { v: '\n {{ data.v|gone }}' },
    language: 'jinja',
    native: false,
    content_type: 'text/plain',
  };
  await query(`UPDATE template_versions SET content = '${JSON.stringify(gone)}' WHERE version = 1`);
  const { error } = await ask('POST', `/api/v1/templates/${id}/rollback`, { version: 1 }, 422);
  expect(error.details.fields).toMatchObject([
    { path: 'version', message: expect.stringContaining('template.v: There is no filter "gone"'), line: 2, column: 12 },
  ]);
  expect(await ask('GET', `/api/v1/templates/${id}`)).toMatchObject({ version: 2 });
  await ask('POST', `/api/v1/templates/${id}/rollback`, { version: 9 }, 404);
});

test('hostile programs of many tenants leave the deliveries of others alone', async () => {
  const tenants = Array.from({ length: 6 }, (_, at) => `hostile-${at}`);
  const programs = [
    '() => { for (;;); }',
    '() => { const a = []; for (;;) a.push(new Uint8Array(1e6)); }',
    '() => [].includes.call({ length: 2 ** 53 - 1 }, 1)',
  ];
  const flood = await Promise.all(
    tenants.map(async (slug, at) => {
      const settings = { allow_unknown_event_types: true };
      await ask('POST', '/api/v1/tenants', { name: slug, slug, settings }, 201);
      const as = { 'x-tenant-id': slug };
      const transformation = { template: programs[at % programs.length], language: 'javascript' };
      const made = await posthorn.call('POST', '/api/v1/webhooks', hook({ transformation }), as);
      expect(made.status, made.text).toBe(201);
      return () => {
        const events = Array.from({ length: 50 }, () => ({ event_type: 'a.b', data: {} }));
        return posthorn.call('POST', '/api/v1/events/batch', { events }, as);
      };
    }),
  );
  for (const { status } of await Promise.all(flood.map((publishAll) => publishAll()))) expect(status).toBe(202);
  // A template that has never run before, and one that then has.
  await createWebhook({ transformation: { template: { id: '{{ data.id|upper }}' } } });
  for (let at = 1; at <= 20; at += 1) {
    await publish({ id: `lead ${at}` });
    const requests = await receiver.received(at);
    expect(requests.at(-1)?.body.toString()).toBe(`{"id":"LEAD ${at}"}`);
  }
  const { data } = (
    await posthorn.call('GET', '/api/v1/deliveries?limit=250', undefined, { 'x-tenant-id': 'hostile-0' })
  ).body;
  expect(data.some(({ attempt_count }: { attempt_count: number }) => attempt_count === 0)).toBe(true);
  const { text } = await posthorn.call('GET', '/metrics');
  const metric = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
  expect(metric('posthorn_template_runs_total{result="ok"}')).toBeGreaterThanOrEqual(20);
  expect(metric('posthorn_template_runs_total{result="limit"}')).toBeGreaterThan(0);
  expect(metric('posthorn_template_runs_waiting')).toBeGreaterThan(0);
  expect(metric('posthorn_template_threads')).toBeGreaterThan(0);
  expect(text).not.toMatch(/hostile/);
  for (const slug of tenants) await ask('DELETE', `/api/v1/tenants/${slug}`, undefined, 204);
});
