import { hash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ANSWER_HEADERS } from '../../src/http/security-headers.ts';
import { OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { exchange } from './wire.ts';

const APP = 'https://app.example.com';
const LOCAL = 'http://localhost:3000';

let posthorn: TestPosthorn;
let closed: TestPosthorn;
beforeAll(async () => {
  [posthorn, closed] = await Promise.all([startTestPosthorn({ corsOrigins: [APP, LOCAL] }), startTestPosthorn()]);
});
afterAll(() => Promise.all([posthorn.stop(), closed.stop()]));

const KEY = `Authorization: Bearer ${OPERATOR_KEY}`;
const publish = (data: number, fields = '') => {
  const body = `{"type":"a.b","event_id":"e_1","data":${data}}`;
  return `POST /api/v1/events HTTP/1.1\r\nHost: a\r\n${KEY}\r\nContent-Type: application/json\r\n${fields}Content-Length: ${body.length}\r\n\r\n${body}`;
};

describe('every answer says that it is no page and is not to be kept', () => {
  test.each([
    ['a publish', publish(1), 202],
    ['a refused publish', publish(2), 409],
    ['a list', `GET /api/v1/webhooks HTTP/1.1\r\nHost: a\r\n${KEY}\r\n\r\n`, 200],
    ['one without a key', 'GET /api/v1/webhooks HTTP/1.1\r\nHost: a\r\n\r\n', 401],
    ['a path that is not there', 'GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n', 404],
    ['a path that cannot be decoded', 'GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n', 400],
    ['what is no HTTP', 'hello\r\n\r\n', 400],
    ['headers that are too large', `GET / HTTP/1.1\r\nHost: a\r\nX-A: ${'a'.repeat(50_000)}\r\n\r\n`, 431],
    ['a tunnel', 'CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n', 405],
    ['an unknown expectation', publish(1, 'Expect: x\r\n'), 417],
    ['a host that is none', 'GET / HTTP/1.1\r\nHost: /\r\n\r\n', 400],
    ['health', 'GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n', 200],
    ['a redirect', 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', 302],
  ])('%s', async (_name, bytes, status) => {
    const { answers } = await exchange(closed.url, bytes);
    expect(answers[0]).toMatchObject({
      status,
      headers: {
        'content-security-policy': "default-src 'none';frame-ancestors 'none'",
        'cross-origin-resource-policy': 'same-origin',
        'referrer-policy': 'no-referrer',
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'cache-control': 'no-store',
      },
    });
    const names = Object.keys(answers[0]?.headers ?? {});
    expect(names).toEqual(expect.arrayContaining(Object.keys(ANSWER_HEADERS)));
    for (const name of ['server', 'x-powered-by', 'strict-transport-security']) expect(names).not.toContain(name);
    expect(names.filter((name) => name.startsWith('access-control-') || name === 'vary')).toEqual([]);
  });
});

describe('the reference page', () => {
  test('loads from here only, and runs no script but those that are meant', async () => {
    const page = await closed.call('GET', '/docs/');
    const policy = Object.fromEntries(
      (page.headers.get('content-security-policy') ?? '').split(';').map((part) => {
        const [name = '', ...sources] = part.split(' ');
        return [name, sources];
      }),
    );
    const scripts = [...page.text.matchAll(/<script([^>]*)>([\s\S]*?)<\/script>/g)];
    const [loaded, inline] = scripts.map(([, attributes = '', text = '']) => ({ attributes, text }));
    expect(scripts).toHaveLength(2);
    expect(loaded?.attributes).toBe(' src="js/scalar.js"');
    expect(policy).toEqual({
      'default-src': ["'none'"],
      'script-src': ["'self'", `'sha256-${hash('sha256', inline?.text ?? '', 'base64')}'`],
      'style-src': ["'self'", "'unsafe-inline'"],
      'img-src': ["'self'", 'data:', 'blob:'],
      'font-src': ["'self'", 'data:'],
      'connect-src': ["'self'"],
      'base-uri': ["'none'"],
      'form-action': ["'none'"],
      'frame-ancestors': ["'none'"],
    });
    // No handler stands in an attribute, which the policy would keep from running.
    expect(page.text).not.toMatch(/<[^>]+\son[a-z]+\s*=/i);
    expect(page.headers.get('cross-origin-opener-policy')).toBe('same-origin');
    expect(page.headers.get('cache-control')).toBe('no-store');
  });

  test('has a script that may be kept, and that makes no program of text', async () => {
    const script = await closed.call('GET', '/docs/js/scalar.js');
    expect(script.headers.get('cache-control')).toBe('public, max-age=3600');
    expect(script.headers.get('x-content-type-options')).toBe('nosniff');
    // The one call that is in it asks whether that may be done, and takes no for an answer.
    expect(script.text.match(/\beval\(|\bnew Function\b|\bFunction\([^`]/g)).toBeNull();
    expect(script.text).not.toContain('new Worker(');
  });

  test.each(['a:99999', '1.2.3.4.5', '[::::]'])('does not fail over the host %s', async (host) => {
    const { answers } = await exchange(closed.url, `GET /docs/ HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    expect(answers.map(({ status }) => status)).toEqual([404]);
  });
});

describe('origins', () => {
  const fromPage = (origin: string, path = '/api/v1/webhooks', headers: Record<string, string> = {}) =>
    posthorn.call('GET', path, undefined, { origin, ...headers });
  const about = (headers: Headers) => [...headers.keys()].filter((name) => name.startsWith('access-control-'));

  test.each([APP, LOCAL])('a page of %s may read answers, refusals too', async (origin) => {
    for (const answer of [
      await fromPage(origin),
      await fromPage(origin, '/nowhere'),
      await fromPage(origin, '/api/v1/webhooks', { authorization: 'Bearer nobody' }),
      await posthorn.call('POST', '/api/v1/events', { type: 'webhook.disabled', data: 1 }, { origin }),
      await posthorn.call('POST', '/api/v1/events', '{', { origin }),
      await posthorn.call('POST', '/api/v1/events', '{}', { origin, 'content-encoding': 'gzip' }),
    ]) {
      expect(answer.headers.get('access-control-allow-origin')).toBe(origin);
      expect(answer.headers.get('access-control-expose-headers')).toMatch(/Retry-After, X-Request-Id$/);
      expect(answer.headers.get('access-control-allow-credentials')).toBeNull();
      expect(answer.headers.get('vary')).toBe('Origin');
    }
  });

  test('a page may read where it stands with its limits, also when one is used up', async () => {
    const limits = { requests_per_second: 1 };
    await posthorn.call('POST', '/api/v1/tenants', { name: 'Limited', slug: 'limited', limits });
    const made = await posthorn.call(
      'POST',
      '/api/v1/api-keys',
      { name: 'k', role: 'viewer' },
      { 'x-tenant-id': 'limited' },
    );
    const ask = () => fromPage(APP, '/api/v1/webhooks', { authorization: `Bearer ${made.body.key}` });
    for (const answer of [await ask(), await ask()]) {
      const exposed = (answer.headers.get('access-control-expose-headers') ?? '').toLowerCase().split(', ');
      const sent = [...answer.headers.keys()].filter((name) => name.startsWith('ratelimit-'));
      expect(sent).toHaveLength(4);
      expect(exposed).toEqual(expect.arrayContaining(sent));
    }
    expect((await ask()).headers.has('retry-after')).toBe(true);
  });

  test('a browser that asks first is answered without a key, and need not ask again for ten minutes', async () => {
    const answer = await posthorn.call('OPTIONS', '/api/v1/events', undefined, {
      authorization: '',
      origin: APP,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,content-type,x-evil',
    });
    expect([answer.status, answer.text]).toEqual([204, '']);
    expect(Object.fromEntries(about(answer.headers).map((name) => [name, answer.headers.get(name)]))).toEqual({
      'access-control-allow-origin': APP,
      'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE',
      'access-control-allow-headers':
        'Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-API-Key, X-Environment, X-Tenant-Id',
      'access-control-expose-headers': expect.any(String),
      'access-control-max-age': '600',
    });
    expect(answer.headers.get('vary')).toBe('Origin');
  });

  test.each([
    'null',
    '*',
    'https://evil.example',
    'https://app.example.com.evil.example',
    'https://evil.example/https://app.example.com',
    'https://evilapp.example.com',
    'https://sub.app.example.com',
    'https://app.example.com.',
    'https://app.example.com/',
    'https://app.example.com:443',
    'https://app.example.com:8443',
    'http://app.example.com',
    'HTTPS://APP.EXAMPLE.COM',
    'https://app.example.com, https://evil.example',
    'https://app.example.com%00.evil.example',
    'https://user@app.example.com',
    'http://localhost',
    'http://localhost:30000',
    '__proto__',
    `https://${'a'.repeat(8_000)}.example`,
  ])('%s is not one of them', async (origin) => {
    const plain = await fromPage(origin);
    expect([plain.status, about(plain.headers), plain.headers.get('vary')]).toEqual([200, [], 'Origin']);
    const preflight = { origin, 'access-control-request-method': 'POST', authorization: '' };
    const asked = await posthorn.call('OPTIONS', '/api/v1/events', undefined, preflight);
    expect([asked.status, asked.body.error.code, about(asked.headers)]).toEqual([404, 'not_found', []]);
  });

  test('two origins in one request, and one with a line end, are none', async () => {
    const ask = (fields: string) =>
      exchange(posthorn.url, `GET /api/v1/webhooks HTTP/1.1\r\nHost: a\r\n${KEY}\r\n${fields}\r\n\r\n`);
    const { answers: two } = await ask(`Origin: https://evil.example\r\nOrigin: ${APP}`);
    expect(two[0]?.headers['access-control-allow-origin']).toBeUndefined();
    const { answers: broken } = await ask(`Origin: ${APP}\r\rX-Evil: a`);
    expect(broken.map(({ status }) => status)).toEqual([400]);
    const { answers: split } = await ask(`Origin: ${APP}%0d%0aX-Evil: a`);
    expect(split[0]?.headers).not.toHaveProperty('x-evil');
    expect(split[0]?.headers).not.toHaveProperty('access-control-allow-origin');
  });

  test('a request from no page is told nothing, and OPTIONS without a question is a path that is not there', async () => {
    const answer = await posthorn.call('GET', '/api/v1/webhooks');
    expect([answer.status, about(answer.headers)]).toEqual([200, []]);
    for (const [name, value] of [
      ['origin', APP],
      ['access-control-request-method', 'POST'],
    ] as const) {
      const { status, body } = await posthorn.call('OPTIONS', '/api/v1/events', undefined, { [name]: value });
      expect([status, body.error.code]).toEqual([404, 'not_found']);
    }
  });

  test('when none is set, nobody is told anything', async () => {
    const plain = await closed.call('GET', '/api/v1/webhooks', undefined, { origin: APP });
    expect([plain.status, about(plain.headers), plain.headers.get('vary')]).toEqual([200, [], null]);
    const preflight = { origin: APP, 'access-control-request-method': 'POST' };
    const asked = await closed.call('OPTIONS', '/api/v1/events', undefined, preflight);
    expect([asked.status, about(asked.headers)]).toEqual([404, []]);
  });
});
