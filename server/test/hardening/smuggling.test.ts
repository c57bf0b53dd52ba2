import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { exchange } from './wire.ts';

let posthorn: TestPosthorn;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
  await posthorn.call('PATCH', '/api/v1/tenants/default', { settings: { allow_unknown_event_types: true } });
});
afterAll(() => posthorn.stop());

const KEY = `Authorization: Bearer ${OPERATOR_KEY}`;
const JSON_TYPE = 'Content-Type: application/json';
const BODY = '{"type":"meant.one","data":1}';
const LENGTH = `Content-Length: ${BODY.length}`;
const CHUNKED = 'Transfer-Encoding: chunked';
const LINE = 'POST /api/v1/events HTTP/1.1';
const message = (lines: string[], body = BODY) => [...lines, '', body].join('\r\n');
const publish = (fields: string[], body = BODY) => message([LINE, 'Host: a', KEY, JSON_TYPE, ...fields], body);
const get = (target: string, version = 'HTTP/1.1') => message([`GET ${target} ${version}`, 'Host: a', KEY], '');
const chunk = (body: string) => `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
/** What must never be taken for a request of its own. */
const HIDDEN_BODY = '{"type":"hidden.one","data":1}';
const HIDDEN = message([LINE, 'Host: a', KEY, JSON_TYPE, `Content-Length: ${HIDDEN_BODY.length}`], HIDDEN_BODY);

/** Sent as the first on their connection, behind a publish that was read from the socket, and through Node's server. */
const PLACES = [
  ['first', undefined],
  ['behind a plain publish', publish([LENGTH])],
  ['behind what Node reads', get('/health/live')],
] as const;

/** What is refused, whoever reads it, and closes the connection: 400 if nothing else is said. */
const REFUSED: [name: string, bytes: string, status?: number][] = [
  // The length of the body
  ['a length and chunks', publish([`Content-Length: 5`, CHUNKED], `0\r\n\r\n${HIDDEN}`)],
  ['chunks and a length', publish([CHUNKED, 'Content-Length: 4'], chunk(BODY) + HIDDEN)],
  ['the same length twice', publish([LENGTH, LENGTH])],
  ['two lengths', publish([LENGTH, 'Content-Length: 2'])],
  ['a list of lengths', publish([`Content-Length: ${BODY.length}, ${BODY.length}`])],
  ['a length with a plus', publish([`Content-Length: +${BODY.length}`])],
  ['a length with a space in it', publish(['Content-Length: 2 9'])],
  ['a hexadecimal length', publish(['Content-Length: 0x1d'])],
  ['a negative length', publish(['Content-Length: -1'])],
  ['a length beyond all numbers', publish([`Content-Length: ${'9'.repeat(40)}`])],
  ['an empty length', publish(['Content-Length:'])],
  ['a space before the colon of the length', publish([`Content-Length : ${BODY.length}`])],
  ['a length that is too short', publish(['Content-Length: 5'])],
  // Transfer codings
  ...[
    ' xchunked',
    ' \x0bchunked',
    ' "chunked"',
    ' identity',
    ' identity, chunked',
    ' gzip, chunked',
    ' chunked, identity',
    ' chunked, chunked',
    ' ,chunked',
    ' chunked;a=b',
    '\r\n chunked',
  ].map((coding): [string, string] => [
    `the transfer coding ${JSON.stringify(coding)}`,
    publish([`Transfer-Encoding:${coding}`], chunk(BODY) + HIDDEN),
  ]),
  ['an empty transfer coding and a length', publish(['Transfer-Encoding:', LENGTH])],
  ['two transfer codings', publish([CHUNKED, CHUNKED], chunk(BODY))],
  ['two different transfer codings', publish([CHUNKED, 'Transfer-Encoding: cow'], chunk(BODY))],
  ['a space before the colon of the transfer coding', publish(['Transfer-Encoding : chunked', LENGTH])],
  ['chunks in HTTP/1.0', publish([CHUNKED], chunk(BODY)).replace('HTTP/1.1', 'HTTP/1.0')],
  // Chunks
  ...['fffffffffffffffff', `0x1d`, '-1d', '1d ', '', ' 1d', '1d;a\nb', '1g'].map((size): [string, string] => [
    `the chunk size ${JSON.stringify(size)}`,
    publish([CHUNKED], `${size}\r\n${BODY}\r\n0\r\n\r\n${HIDDEN}`),
  ]),
  ['20,000 bytes of chunk extensions', publish([CHUNKED], `1d;${'a'.repeat(20_000)}\r\n${BODY}\r\n0\r\n\r\n`), 413],
  ['a chunk that is longer than it says', publish([CHUNKED], `1d\r\n${BODY}X0\r\n\r\n`)],
  ['a chunk that ends with a line feed', publish([CHUNKED], `1d\r\n${BODY}\n0\r\n\r\n`)],
  ['a length in the trailers', publish([CHUNKED], `1d\r\n${BODY}\r\n0\r\nContent-Length: 5\r\n\r\n`)],
  ['a coding in the trailers', publish([CHUNKED], `1d\r\n${BODY}\r\n0\r\n${CHUNKED}\r\n\r\n`)],
  // A request in the body of one that does not know what to do with it
  ['a request that is no JSON', publish([`Content-Length: ${HIDDEN.length}`], HIDDEN)],
  [
    'a request in the body of a DELETE',
    publish([`Content-Length: ${HIDDEN.length}`], HIDDEN).replace(LINE, 'DELETE /api/v1/webhooks/a HTTP/1.1'),
  ],
  // Lines
  ['a folded line', publish(['X-A: b\r\n c', LENGTH])],
  ['a folded first line', message([LINE, ' Host: a', KEY, JSON_TYPE, LENGTH])],
  ['a bare line feed', publish(['X-A: b\nX-B: c', LENGTH])],
  ['nothing but bare line feeds', publish([LENGTH]).replaceAll('\r\n', '\n')],
  ['a head that ends with line feeds', publish([LENGTH]).replace('\r\n\r\n', '\n\n')],
  ['a bare carriage return', publish(['X-A: b\rX-B: c', LENGTH])],
  ['a NUL in a value', publish(['X-A: b\0', LENGTH])],
  ['a NUL in a name', publish(['X\0A: b', LENGTH])],
  ['a line without a colon', publish(['X-A', LENGTH])],
  ['an empty name', publish([': b', LENGTH])],
  ['3,000 headers', publish([...Array.from({ length: 3_000 }, (_, at) => `X-${at}: a`), LENGTH]), 431],
  ['a header of 20,000 bytes', publish([`X-A: ${'a'.repeat(20_000)}`, LENGTH]), 431],
  // Who is meant
  ['no host', message([LINE, KEY, JSON_TYPE, LENGTH])],
  ['two hosts', publish(['Host: b', LENGTH])],
  ['the same host twice', publish(['Host: a', LENGTH])],
  ...['', 'a b', 'a\tb', 'a/b', 'a@b', 'a,b', 'http://a', 'a:b', 'a:123456', '[::1', '%61', 'a"', 'ä'].map(
    (host): [string, string] => [
      `the host ${JSON.stringify(host)}`,
      message([LINE, `Host: ${host}`, KEY, JSON_TYPE, LENGTH]),
    ],
  ),
  ['the target of a proxy', publish([LENGTH]).replace('/api/v1/events', 'a:80')],
  ['a tunnel', message(['CONNECT a:443 HTTP/1.1', 'Host: a:443'], ''), 405],
  // What is spoken
  ['HTTP/0.9', 'GET /health/live\r\n\r\n'],
  ['HTTP/1.2', get('/health/live', 'HTTP/1.2')],
  ['HTTP/2.0 in a line of HTTP/1.1', get('/health/live', 'HTTP/2.0')],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['a TLS hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n'],
  ['an unknown method', get('/health/live').replace('GET', 'BREW')],
  ['a method in lower case', get('/health/live').replace('GET', 'get')],
  ['a space in the target', get('/health/live /')],
  ['a byte beyond ASCII in the target', get('/\xff')],
  ['a target of 20,000 bytes', get(`/${'a'.repeat(20_000)}`), 431],
  ['an unknown expectation', publish(['Expect: 200-ok', LENGTH]), 417],
];

/** One request, whoever reads it, and the connection is good for the next. */
const ONE: [name: string, bytes: string, status: number][] = [
  ['a plain publish', publish([LENGTH]), 202],
  ['a length with a leading zero', publish([`Content-Length: 0${BODY.length}`]), 202],
  ['chunks', publish([CHUNKED], chunk(BODY)), 202],
  ['chunks in capitals', publish(['TRANSFER-ENCODING: CHUNKED'], chunk(BODY)), 202],
  ['chunks behind a tab', publish(['Transfer-Encoding:\tchunked '], chunk(BODY)), 202],
  ['a chunk with an extension', publish([CHUNKED], `1d;a=b\r\n${BODY}\r\n0\r\n\r\n`), 202],
  ['a header that only looks like a coding', publish(['Transfer_Encoding: chunked', LENGTH]), 202],
  [
    'trailers, which count for nothing',
    publish([CHUNKED], `1d\r\n${BODY}\r\n0\r\nAuthorization: Bearer x\r\nX-Tenant-Id: x\r\nHost: b\r\n\r\n`),
    202,
  ],
  ['the absolute form', publish([LENGTH]).replace(LINE, 'POST http://other.example/api/v1/events HTTP/1.1'), 202],
  ['an upgrade to HTTP/2', publish(['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', LENGTH]), 202],
  ['an upgrade to a web socket', message(['GET /health/live HTTP/1.1', 'Host: a', 'Upgrade: websocket'], ''), 200],
  ['an expectation to go on', publish(['Expect: 100-continue', LENGTH]), 202],
  ['empty lines before it', `\r\n\r\n${publish([LENGTH])}`, 202],
  ...['a', 'A.example:80', '[::1]:7678', 'xn--a', 'a_b', '127.0.0.1'].map((host): [string, string, number] => [
    `the host ${host}`,
    message([LINE, `Host: ${host}`, KEY, JSON_TYPE, LENGTH]),
    202,
  ]),
  // A request in the body of one that does not read it
  ...(
    [
      ['that nobody knows', 'POST /nowhere HTTP/1.1', KEY, JSON_TYPE, 404],
      ['without a key', LINE, 'X-A: b', JSON_TYPE, 401],
      ['of another type', LINE, KEY, 'Content-Type: text/plain', 415],
      ['that is compressed', LINE, KEY, `${JSON_TYPE}\r\nContent-Encoding: gzip`, 415],
      ['with GET', 'GET /health/live HTTP/1.1', KEY, JSON_TYPE, 200],
    ] as const
  ).flatMap(([name, line, key, type, status]): [string, string, number][] => [
    [
      `a request in the body ${name}`,
      message([line, 'Host: a', key, type, `Content-Length: ${HIDDEN.length}`], HIDDEN),
      status,
    ],
  ]),
  // Methods and paths
  ...['TRACE', 'OPTIONS', 'PUT', 'PROPFIND', 'M-SEARCH', 'QUERY'].map((method): [string, string, number] => [
    `the method ${method}`,
    get('/health/live').replace('GET', method),
    404,
  ]),
  ['the method HEAD', get('/health/live').replace('GET', 'HEAD'), 200],
  ['OPTIONS of everything', get('*').replace('GET', 'OPTIONS'), 404],
  ...(
    [
      ['//health/live', 404],
      ['/health/../health/live', 404],
      ['/health/%2e%2e/health/live', 404],
      ['/health%2flive', 404],
      ['/health\\live', 404],
      ['/health/live%00', 404],
      ['/health/live;a=b', 404],
      ['/HEALTH/live', 404],
      ['/health/live/', 200],
      ['/health/live?', 200],
      ['/%', 400],
      ['/%zz', 400],
      ['/api/v1/webhooks/%c0%80', 400],
      ['/api/v1/webhooks/%00', 404],
      ['/api/v1/webhooks/..%2f..', 404],
      [`/api/v1/webhooks/${'a'.repeat(301)}`, 414],
      [`/${'a'.repeat(15_000)}`, 404],
      [`/health/live?${'a=1&'.repeat(3_000)}`, 200],
      ['http:///x', 400],
    ] as const
  ).map(([target, status]): [string, string, number] => [`the path ${target.slice(0, 40)}`, get(target), status]),
];

describe.each(PLACES)('%s', (_place, first) => {
  test.each(REFUSED)('%s is refused once, and the connection closed', async (_name, bytes, status = 400) => {
    const { answers, kept } = await exchange(posthorn.url, bytes, first);
    expect(answers.map((answer) => answer.status)).toEqual([status]);
    expect(kept).toBe(false);
    const { headers, text } = answers[0] ?? { headers: {}, text: '' };
    expect(headers).toMatchObject({ connection: 'close', 'content-type': 'application/json; charset=utf-8' });
    expect(JSON.parse(text).error).toEqual({
      code: expect.any(String),
      message: expect.any(String),
      details: {},
      request_id: expect.stringMatching(/^req_/),
    });
  });

  test.each(ONE)('%s is one request', async (_name, bytes, status) => {
    const { answers, kept } = await exchange(posthorn.url, bytes, first);
    expect(answers.map((answer) => answer.status)).toEqual([status]);
    expect(kept).toBe(true);
  });

  test('what is behind a request is another one', async () => {
    const second = publish([`X-A: b`, LENGTH]);
    for (const bytes of [publish([LENGTH]) + second, publish([CHUNKED], chunk(BODY)) + second]) {
      const { answers, kept } = await exchange(posthorn.url, bytes, first);
      expect([answers.map((answer) => answer.status), kept]).toEqual([[202, 202], true]);
    }
  });

  test('what cannot be read is answered behind what was asked before', async () => {
    const slow = publish([`Idempotency-Key: ${crypto.randomUUID()}`, LENGTH]);
    const { answers, kept } = await exchange(posthorn.url, `${slow}${slow}${get('/health/ready')}hello\r\n\r\n`, first);
    expect([answers.map((answer) => answer.status), kept]).toEqual([[202, 202, 200, 400], false]);
  });
});

test('nothing that was hidden in another request was done', async () => {
  const { body } = await posthorn.call('GET', '/api/v1/events?event_type=hidden.one');
  expect(body.data).toEqual([]);
  expect((await posthorn.call('GET', '/api/v1/events?event_type=meant.one')).body.data).not.toEqual([]);
});
