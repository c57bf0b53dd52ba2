import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { resolveConnection } from './connection.ts';

let dataDir: string;

beforeAll(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), 'posthorn-connection-'));
  writeFileSync(path.join(dataDir, 'operator.key'), 'kept-operator-key-1234\n');
});

afterAll(() => rmSync(dataDir, { recursive: true }));

test('without options it is the local server with the key that the data folder keeps', () => {
  const connection = resolveConnection({}, { POSTHORN_DATA_DIR: dataDir });
  expect(connection).toMatchObject({ url: 'http://127.0.0.1:7678', key: 'kept-operator-key-1234', tenant: undefined });
});

test('--key goes before POSTHORN_OPERATOR_KEY, and that before the file', () => {
  const env = { POSTHORN_DATA_DIR: dataDir, POSTHORN_OPERATOR_KEY: 'key-of-the-environment' };
  expect(resolveConnection({ key: 'given' }, env)).toMatchObject({ key: 'given', keySource: '--key' });
  expect(resolveConnection({}, env)).toMatchObject({ key: 'key-of-the-environment' });
});

test.each([
  [{ POSTHORN_PORT: '8001' }, 'http://127.0.0.1:8001'],
  [{ POSTHORN_HOST: '0.0.0.0' }, 'http://127.0.0.1:7678'],
  [{ POSTHORN_HOST: '::' }, 'http://127.0.0.1:7678'],
  [{ POSTHORN_HOST: '::1' }, 'http://[::1]:7678'],
  [{ POSTHORN_HOST: '192.0.2.7' }, 'http://192.0.2.7:7678'],
])('a server that is set up with %o is reached at %s', (env, url) => {
  expect(resolveConnection({ key: 'k' }, env).url).toBe(url);
});

test('--url keeps the path of a reverse proxy and loses its last slash', () => {
  expect(resolveConnection({ key: 'k', url: 'https://example.com/hooks/' }, {}).url).toBe('https://example.com/hooks');
});

test.each(['', 'localhost:7678', 'ftp://example.com', 'http://user:pass@example.com', 'http://example.com?x=1'])(
  '--url %j is refused',
  (url) => {
    expect(() => resolveConnection({ key: 'k', url }, {})).toThrow(/^--url must be/);
  },
);

test('a missing key says where one comes from', () => {
  const missing = path.join(dataDir, 'nowhere');
  expect(() => resolveConnection({}, { POSTHORN_DATA_DIR: missing })).toThrow(
    `There is no key in ${missing}: start Posthorn`,
  );
});

test.each([
  [{ key: 'a\r\nX-Tenant-Id: other' }, '--key'],
  [{ key: 'k', tenant: 'a\nb' }, '--tenant'],
  [{ key: 'k', environment: '' }, '--environment'],
])('%o cannot become a header', (options, name) => {
  expect(() => resolveConnection(options, {})).toThrow(`${name} must hold printable ASCII`);
});
