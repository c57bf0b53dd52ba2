import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path, { dirname, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readConfig } from './config.ts';
import { SETTINGS } from './settings.ts';
import { NO_LIMITS } from './tenants/types.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'posthorn-config-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
/** A configuration file; a text is its content as it is. */
function configFile(content: unknown): string {
  files += 1;
  const file = path.join(folder, `${files}.json`);
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

const ENCRYPTION_KEY = '0123456789abcdef'.repeat(4);

test('dev needs no setting: loopback only, deliveries to loopback, everything in one folder', () => {
  expect(readConfig('dev', {})).toEqual({
    mode: 'dev',
    host: '127.0.0.1',
    port: 7678,
    dataDir: resolve('.posthorn'),
    databaseUrl: undefined,
    operatorKey: undefined,
    encryptionKey: undefined,
    previousEncryptionKey: undefined,
    egressAllow: ['127.0.0.0/8', '::1/128', 'localhost'],
    corsOrigins: [],
    logLevel: 'warn',
    maxInFlight: 1_024,
    maxQueued: 200_000,
    batchSize: 1_000,
    queueCheckSeconds: 5,
    connectionPoolSize: 256,
    maxQueueSize: undefined,
    deadLetterThreshold: 50,
    cleanupSeconds: 3_600,
    drainSeconds: 20,
    processes: 1,
    trustedProxies: [],
    authFailuresPerMinute: 20,
    defaultLimits: NO_LIMITS,
  });
});

test('serve is strict: it needs an encryption key and allows no private address', () => {
  expect(() => readConfig('serve', {})).toThrow(/^POSTHORN_ENCRYPTION_KEY is needed by `posthorn serve`/);
  const config = readConfig('serve', { POSTHORN_ENCRYPTION_KEY: ENCRYPTION_KEY });
  expect(config).toMatchObject({ mode: 'serve', egressAllow: [], logLevel: 'info' });
  expect(config.encryptionKey?.toString('hex')).toBe(ENCRYPTION_KEY);
});

test('every setting is read', () => {
  const env = {
    POSTHORN_HOST: '0.0.0.0',
    POSTHORN_PORT: '0',
    POSTHORN_DATA_DIR: 'data',
    DATABASE_URL: 'postgres://user:pass@db/posthorn',
    POSTHORN_OPERATOR_KEY: 'sixteen-chars-ok',
    POSTHORN_ENCRYPTION_KEY: ENCRYPTION_KEY,
    POSTHORN_ENCRYPTION_KEY_PREVIOUS: 'f'.repeat(64),
    POSTHORN_EGRESS_ALLOW: ' 10.0.0.0/8, hooks.internal ,,::1/128',
    POSTHORN_EGRESS_PROXY: 'http://user:hunter2@proxy.internal:3128',
    POSTHORN_CORS_ORIGINS: 'https://app.example.com, http://localhost:3000',
    POSTHORN_LOG_LEVEL: 'debug',
    POSTHORN_MAX_IN_FLIGHT: '1',
    POSTHORN_MAX_IN_FLIGHT_SCALED: '700',
    POSTHORN_MAX_QUEUED: '1000000',
    POSTHORN_MAX_CONCURRENT_DELIVERIES: '1',
    POSTHORN_BATCH_SIZE: '50',
    POSTHORN_QUEUE_CHECK_INTERVAL: '60',
    POSTHORN_CONNECTION_POOL_SIZE: '20',
    POSTHORN_MAX_QUEUE_SIZE: '10000',
    POSTHORN_DEAD_LETTER_THRESHOLD: '5',
    POSTHORN_CLEANUP_INTERVAL: '7200',
    POSTHORN_CONFIG_FILE: configFile({}),
    POSTHORN_DRAIN_SECONDS: '600',
    POSTHORN_PROCESSES: '64',
    POSTHORN_TRUSTED_PROXIES: '10.0.0.0/8, ::1',
    POSTHORN_AUTH_FAILURES_PER_MINUTE: '50',
    POSTHORN_TENANT_REQUESTS_PER_SECOND: '100',
    POSTHORN_TENANT_EVENTS_PER_SECOND: '50',
    POSTHORN_TENANT_EVENTS_PER_DAY: '999999999',
    POSTHORN_TENANT_WEBHOOKS: '20',
    POSTHORN_TENANT_PAYLOAD_BYTES: '65536',
  };
  expect(Object.keys(env).sort()).toEqual(SETTINGS.map((setting) => setting.env).sort());
  expect(readConfig('serve', env)).toEqual({
    mode: 'serve',
    host: '0.0.0.0',
    port: 0,
    dataDir: resolve('data'),
    databaseUrl: 'postgres://user:pass@db/posthorn',
    operatorKey: 'sixteen-chars-ok',
    encryptionKey: Buffer.from(ENCRYPTION_KEY, 'hex'),
    previousEncryptionKey: Buffer.alloc(32, 0xff),
    egressAllow: ['10.0.0.0/8', 'hooks.internal', '::1/128'],
    egressProxy: {
      host: 'proxy.internal',
      port: 3128,
      authorization: `Basic ${Buffer.from('user:hunter2').toString('base64')}`,
    },
    corsOrigins: ['https://app.example.com', 'http://localhost:3000'],
    logLevel: 'debug',
    maxInFlight: 1,
    maxInFlightScaled: 700,
    maxQueued: 1_000_000,
    batchSize: 50,
    queueCheckSeconds: 60,
    connectionPoolSize: 20,
    maxQueueSize: 10_000,
    deadLetterThreshold: 5,
    cleanupSeconds: 7_200,
    drainSeconds: 600,
    processes: 64,
    trustedProxies: ['10.0.0.0/8', '::1'],
    authFailuresPerMinute: 50,
    defaultLimits: {
      requests_per_second: 100,
      events_per_second: 50,
      events_per_day: 999_999_999,
      webhooks: 20,
      payload_bytes: 65_536,
    },
  });
});

test('an unknown POSTHORN_ variable stops the start by name, and others are none of ours', () => {
  expect(() => readConfig('dev', { POSTHORN_PROT: '80' })).toThrow(/^POSTHORN_PROT is not a setting of Posthorn/);
  expect(() => readConfig('dev', { POSTHORN_: '' })).toThrow('POSTHORN_ is not a setting');
  expect(readConfig('dev', { PATH: '/bin', posthorn_port: '1', PORT: '1' }).port).toBe(7678);
});

test.each([
  ['POSTHORN_HOST', ''],
  ['POSTHORN_PORT', ''],
  ['POSTHORN_PORT', '65536'],
  ['POSTHORN_PORT', '-1'],
  ['POSTHORN_PORT', '80.5'],
  ['POSTHORN_PORT', '0x50'],
  ['POSTHORN_PORT', ' 80'],
  ['POSTHORN_PORT', '1e3'],
  ['POSTHORN_PORT', '99999999999999999999'],
  ['POSTHORN_DATA_DIR', ''],
  ['POSTHORN_EGRESS_ALLOW', '10.0.0.0/8 127.0.0.1'],
  ['POSTHORN_EGRESS_ALLOW', '*'],
  ['POSTHORN_CORS_ORIGINS', '*'],
  ['POSTHORN_CORS_ORIGINS', 'null'],
  ['POSTHORN_CORS_ORIGINS', 'app.example.com'],
  ['POSTHORN_CORS_ORIGINS', 'https://*.example.com'],
  ['POSTHORN_CORS_ORIGINS', 'https://app.example.com/'],
  ['POSTHORN_CORS_ORIGINS', 'https://app.example.com:443'],
  ['POSTHORN_CORS_ORIGINS', 'HTTPS://app.example.com'],
  ['POSTHORN_CORS_ORIGINS', 'https://App.example.com'],
  ['POSTHORN_CORS_ORIGINS', 'https://user@app.example.com'],
  ['POSTHORN_CORS_ORIGINS', 'https://a.example https://b.example'],
  ['POSTHORN_CORS_ORIGINS', 'file:///etc/passwd'],
  ['POSTHORN_LOG_LEVEL', 'verbose'],
  ['POSTHORN_LOG_LEVEL', 'WARN'],
  ['POSTHORN_LOG_LEVEL', '__proto__'],
  ['POSTHORN_MAX_IN_FLIGHT', '0'],
  ['POSTHORN_MAX_IN_FLIGHT', '10001'],
  ['POSTHORN_MAX_QUEUED', '0'],
  ['POSTHORN_MAX_CONCURRENT_DELIVERIES', '0'],
  ['POSTHORN_BATCH_SIZE', '0'],
  ['POSTHORN_BATCH_SIZE', '10001'],
  ['POSTHORN_QUEUE_CHECK_INTERVAL', '0'],
  ['POSTHORN_QUEUE_CHECK_INTERVAL', '301'],
  ['POSTHORN_CONNECTION_POOL_SIZE', '0'],
  ['POSTHORN_CONNECTION_POOL_SIZE', '1025'],
  ['POSTHORN_MAX_QUEUE_SIZE', '0'],
  ['POSTHORN_DEAD_LETTER_THRESHOLD', '0'],
  ['POSTHORN_DEAD_LETTER_THRESHOLD', '51'],
  ['POSTHORN_CLEANUP_INTERVAL', '59'],
  ['POSTHORN_CONFIG_FILE', ''],
  ['POSTHORN_DRAIN_SECONDS', '601'],
  ['POSTHORN_TRUSTED_PROXIES', 'proxy.internal'],
  ['POSTHORN_TRUSTED_PROXIES', '10.0.0.0/33'],
  ['POSTHORN_AUTH_FAILURES_PER_MINUTE', '0'],
  ['POSTHORN_TENANT_EVENTS_PER_DAY', '0'],
])('%s=%j stops the start with one line that names both', (name, value) => {
  let message = '';
  try {
    readConfig('dev', { [name]: value });
  } catch (error) {
    message = (error as Error).message;
    expect((error as Error).name).toBe('StartupError');
  }
  expect(message.startsWith(`${name} must `)).toBe(true);
  expect(message).toContain(JSON.stringify(value));
  expect(message).not.toContain('\n');
});

test.each([
  ['DATABASE_URL', 'mysql://user:hunter2@db/x'],
  ['DATABASE_URL', ''],
  ['POSTHORN_OPERATOR_KEY', 'hunter2'],
  ['POSTHORN_OPERATOR_KEY', 'hunter2 with some spaces'],
  ['POSTHORN_OPERATOR_KEY', 'hunter2\r\nhunter2hunter2'],
  ['POSTHORN_OPERATOR_KEY', 'hunter2'.repeat(40)],
  ['POSTHORN_ENCRYPTION_KEY', 'hunter2'],
  ['POSTHORN_ENCRYPTION_KEY_PREVIOUS', 'hunter2'],
  ['POSTHORN_ENCRYPTION_KEY', ''],
  ['POSTHORN_EGRESS_PROXY', 'https://user:hunter2@proxy'],
  ['POSTHORN_EGRESS_PROXY', ''],
])('a bad value of the secret %s is not repeated', (name, value) => {
  expect(() => readConfig('dev', { [name]: value })).toThrow(new RegExp(`^${name} must `));
  try {
    readConfig('dev', { [name]: value });
  } catch (error) {
    expect((error as Error).message).not.toContain('hunter2');
  }
});

test('the previous encryption key is refused where no new one takes its place', () => {
  expect(() => readConfig('dev', { POSTHORN_ENCRYPTION_KEY_PREVIOUS: ENCRYPTION_KEY })).toThrow(
    'POSTHORN_ENCRYPTION_KEY_PREVIOUS is of use only beside POSTHORN_ENCRYPTION_KEY',
  );
});

test('settings that hold a secret are marked as such', () => {
  const secrets = SETTINGS.filter((setting) => setting.secret).map((setting) => setting.env);
  expect(secrets).toEqual([
    'DATABASE_URL',
    'POSTHORN_OPERATOR_KEY',
    'POSTHORN_ENCRYPTION_KEY',
    'POSTHORN_ENCRYPTION_KEY_PREVIOUS',
    'POSTHORN_EGRESS_PROXY',
  ]);
});

describe('the configuration file', () => {
  test('is what call-center.md prints under "Scaling Configuration", as it is printed', () => {
    const printed = readFileSync(
      new URL('../test/vectors/documents/call-center.scaling.json', import.meta.url),
      'utf8',
    );
    expect(readConfig('dev', { POSTHORN_CONFIG_FILE: configFile(printed) })).toMatchObject({
      maxInFlight: 100,
      batchSize: 50,
      queueCheckSeconds: 5,
      connectionPoolSize: 20,
      maxQueueSize: 10_000,
      deadLetterThreshold: 5,
      cleanupSeconds: 3_600,
    });
  });

  test('takes every setting that is no secret, lists as arrays, and gives way to the environment', () => {
    const file = configFile({
      egress_allow: ['10.0.0.0/8', 'hooks.internal'],
      processing: { max_concurrent_deliveries: 100, batch_size: '7' },
      log_level: 'error',
    });
    expect(readConfig('dev', { POSTHORN_CONFIG_FILE: file })).toMatchObject({
      egressAllow: ['10.0.0.0/8', 'hooks.internal'],
      maxInFlight: 100,
      batchSize: 7,
      logLevel: 'error',
    });
    // Also under its other name.
    expect(
      readConfig('dev', { POSTHORN_CONFIG_FILE: file, POSTHORN_MAX_IN_FLIGHT: '9', POSTHORN_LOG_LEVEL: 'warn' }),
    ).toMatchObject({ maxInFlight: 9, batchSize: 7, logLevel: 'warn' });
  });

  test.each([
    ['{"prot":80}', 'prot is not a setting'],
    ['{"a":{"prot":80}}', 'a.prot is not a setting'],
    ['{"__proto__":{"port":70000}}', '__proto__.port must be a whole number'],
    ['{"a":{"b":{"port":80}}}', 'a.b must be a number'],
    ['{"port":null}', 'port must be a number'],
    ['{"egress_allow":[1]}', 'egress_allow must be a number'],
    ['{"batch_size":0}', 'batch_size must be a whole number from 1 to 10000; it is "0"'],
    ['{"batch_size":1,"a":{"batch_size":2}}', 'a.batch_size is there twice'],
    ['{"operator_key":"hunter2hunter2hunter2"}', 'operator_key is a secret; set POSTHORN_OPERATOR_KEY'],
    ['{"config_file":"x"}', 'config_file is not a setting'],
    ['hunter2', 'must be a JSON object'],
    ['[]', 'must be a JSON object'],
    ['', 'must be a JSON object'],
  ])('%s stops the start with one line that says why', (content, why) => {
    const file = configFile(content);
    const read = () => readConfig('dev', { POSTHORN_CONFIG_FILE: file });
    expect(read).toThrow(why);
    expect(read).toThrow(file);
    expect(read).not.toThrow(/hunter2|\n/);
  });

  test('with a byte order mark, as editors on Windows write it, is read like any other', () => {
    expect(readConfig('dev', { POSTHORN_CONFIG_FILE: configFile('\ufeff{"batch_size":7}') }).batchSize).toBe(7);
  });

  test.each<[string, () => string, string]>([
    ['a folder', () => dirname(configFile('{}')), 'cannot be read (EISDIR)'],
    ['more than a megabyte', () => configFile(`{"a":"${'x'.repeat(1_048_576)}"}`), 'must be a JSON object of settings'],
    ['a device that never ends', () => '/dev/zero', 'must be a JSON object of settings'],
  ])('%s stops the start', (_name, path, why) => {
    expect(() => readConfig('dev', { POSTHORN_CONFIG_FILE: path() })).toThrow(why);
  });

  test('one that is not there stops the start', () => {
    expect(() => readConfig('dev', { POSTHORN_CONFIG_FILE: '/nowhere/posthorn.json' })).toThrow(
      'POSTHORN_CONFIG_FILE cannot be read (ENOENT); it is "/nowhere/posthorn.json".',
    );
  });
});

test('one setting with two names is not set to two values', () => {
  const both = { POSTHORN_MAX_IN_FLIGHT: '5', POSTHORN_MAX_CONCURRENT_DELIVERIES: '5' };
  expect(readConfig('dev', both).maxInFlight).toBe(5);
  expect(() => readConfig('dev', { ...both, POSTHORN_MAX_IN_FLIGHT: '6' })).toThrow('two names of one setting');
});
