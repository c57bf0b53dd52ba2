import { resolve } from 'node:path';
import type { Config } from './config.ts';
import { isCidr } from './http/client-address.ts';
import { LOG_LEVELS } from './kernel/logger.ts';
import { parseEncryptionKey } from './kernel/secret-box.ts';
import { LIMIT_MAX, type TenantLimits } from './tenants/types.ts';
import { parseEgressProxy } from './webhooks/egress/proxy.ts';

/** One setting: all that the program, the documentation and the error texts need to know of it. */
export interface Setting {
  env: string;
  /** How the default reads in the documentation. */
  default: string;
  description: string;
  secret: boolean;
  /** Sets its field of `config`; returns what is wrong with the value, or undefined. */
  read(value: string, config: Config): string | undefined;
}

/** The setting that names the configuration file. */
export const CONFIG_FILE = 'POSTHORN_CONFIG_FILE';

const NO_ENCRYPTION_KEY = 'must be 32 bytes, as 64 hex digits or base64';

/** Far more than the cores that one PostgreSQL keeps busy. */
export const PROCESSES_MAX = 64;

/** All of them, in the order of docs/configuration.md, which is made from it. */
export const SETTINGS: readonly Setting[] = [
  {
    env: CONFIG_FILE,
    default: 'none',
    description:
      'A JSON file with settings that the environment does not have: see [below](#the-configuration-file). Secrets are not taken from it.',
    secret: false,
    read: (value) => (value === '' ? 'must not be empty' : undefined),
  },
  {
    env: 'POSTHORN_HOST',
    default: '127.0.0.1',
    description: 'Address to listen on. `0.0.0.0` listens on all of them.',
    secret: false,
    read: (value, config) => {
      config.host = value;
      return value === '' ? 'must not be empty' : undefined;
    },
  },
  integer('POSTHORN_PORT', 7678, 0, 65_535, 'TCP port to listen on; `0` takes a free one.', (config, value) => {
    config.port = value;
  }),
  {
    env: 'POSTHORN_DATA_DIR',
    default: './.posthorn',
    description: 'Folder of the embedded database and of the keys made at the first start.',
    secret: false,
    read: (value, config) => {
      config.dataDir = resolve(value);
      return value === '' ? 'must not be empty' : undefined;
    },
  },
  {
    env: 'DATABASE_URL',
    default: 'the embedded PostgreSQL',
    description:
      'A PostgreSQL 15 or later to use in place of the embedded one: `postgresql://user:password@host/name`.',
    secret: true,
    read: (value, config) => {
      config.databaseUrl = value;
      return /^postgres(ql)?:\/\//.test(value) ? undefined : 'must begin with postgresql://';
    },
  },
  {
    env: 'POSTHORN_OPERATOR_KEY',
    default: 'made at the first start, kept in `operator.key` of the data folder',
    description: 'The key that may do everything: at least 16 printable characters.',
    secret: true,
    read: (value, config) => {
      config.operatorKey = value;
      return /^[\x21-\x7e]{16,256}$/.test(value) ? undefined : 'must be 16 to 256 printable characters without spaces';
    },
  },
  {
    env: 'POSTHORN_ENCRYPTION_KEY',
    default: 'in dev mode made at the first start, kept in `encryption.key` of the data folder; `serve` needs it',
    description: '32 random bytes as hex or base64, under which secrets are stored: `openssl rand -hex 32`.',
    secret: true,
    read: (value, config) => {
      config.encryptionKey = parseEncryptionKey(value);
      return config.encryptionKey === undefined ? NO_ENCRYPTION_KEY : undefined;
    },
  },
  {
    env: 'POSTHORN_ENCRYPTION_KEY_PREVIOUS',
    default: 'none',
    description:
      'The encryption key until now, while another one takes its place: see [encryption.md](encryption.md#a-new-master-key).',
    secret: true,
    read: (value, config) => {
      config.previousEncryptionKey = parseEncryptionKey(value);
      return config.previousEncryptionKey === undefined ? NO_ENCRYPTION_KEY : undefined;
    },
  },
  {
    env: 'POSTHORN_EGRESS_ALLOW',
    default: 'empty; in dev mode `127.0.0.0/8,::1/128,localhost`',
    description: 'Comma-separated CIDRs and host names that deliveries may reach although they are not public.',
    secret: false,
    read: (value, config) => {
      config.egressAllow = listOf(value);
      return config.egressAllow.find((part) => !/^[0-9A-Za-z.:_/-]+$/.test(part)) === undefined
        ? undefined
        : 'must be CIDRs such as 10.0.0.0/8 and host names, separated by commas';
    },
  },
  {
    env: 'POSTHORN_EGRESS_PROXY',
    default: 'none; `HTTP_PROXY` and its like have no effect',
    description:
      'An HTTP proxy that all deliveries go through, with `CONNECT` to addresses that were judged here: `http://[user:password@]host:port`.',
    secret: true,
    read: (value, config) => {
      config.egressProxy = parseEgressProxy(value);
      return config.egressProxy === undefined
        ? 'must be http://host:port or http://user:password@host:port'
        : undefined;
    },
  },
  {
    env: 'POSTHORN_CORS_ORIGINS',
    default: 'none: no page of another origin can read an answer',
    description:
      'Comma-separated origins whose pages may call the API from a browser, to the letter: `https://app.example.com`. Patterns and `*` are not taken.',
    secret: false,
    read: (value, config) => {
      config.corsOrigins = listOf(value);
      return config.corsOrigins.every(isOrigin)
        ? undefined
        : 'must be origins such as https://app.example.com, without a path, separated by commas';
    },
  },
  {
    env: 'POSTHORN_LOG_LEVEL',
    default: 'info; in dev mode warn',
    description: `What to log: ${LOG_LEVELS.join(', ')}.`,
    secret: false,
    read: (value, config) => {
      const level = LOG_LEVELS.find((known) => known === value);
      if (level === undefined) return `must be one of ${LOG_LEVELS.join(', ')}`;
      config.logLevel = level;
      return undefined;
    },
  },
  integer(
    'POSTHORN_MAX_IN_FLIGHT',
    1_024,
    1,
    10_000,
    'Requests that may be under way to receivers at once, all tenants together.',
    (config, value) => {
      config.maxInFlight = value;
    },
  ),
  {
    ...integer(
      'POSTHORN_MAX_IN_FLIGHT_SCALED',
      2_048,
      1,
      20_000,
      'The same while an alert with the action `scale_processing_capacity` is open. At or below `POSTHORN_MAX_IN_FLIGHT`: it is never raised.',
      (config, value) => {
        config.maxInFlightScaled = value;
      },
    ),
    default: 'twice `POSTHORN_MAX_IN_FLIGHT`',
  },
  integer(
    'POSTHORN_MAX_QUEUED',
    200_000,
    1,
    1_000_000,
    'Deliveries that may wait in memory, a tenth of them from the backlog in the database; more wait there.',
    (config, value) => {
      config.maxQueued = value;
    },
  ),
  {
    ...integer(
      'POSTHORN_MAX_CONCURRENT_DELIVERIES',
      1_024,
      1,
      10_000,
      'Another name of `POSTHORN_MAX_IN_FLIGHT`; set only one of them.',
      (config, value) => {
        config.maxInFlight = value;
      },
    ),
    default: 'as `POSTHORN_MAX_IN_FLIGHT`',
  },
  integer(
    'POSTHORN_BATCH_SIZE',
    1_000,
    1,
    10_000,
    'Waiting deliveries that a process takes from the database at once, over all their webhooks.',
    (config, value) => {
      config.batchSize = value;
    },
  ),
  integer(
    'POSTHORN_QUEUE_CHECK_INTERVAL',
    5,
    1,
    300,
    'Seconds between two looks into the database for deliveries that wait and that the process has not heard of: those of a process that ended, for example. Others are sent when they are due, to the millisecond.',
    (config, value) => {
      config.queueCheckSeconds = value;
    },
  ),
  integer(
    'POSTHORN_CONNECTION_POOL_SIZE',
    256,
    1,
    1_024,
    'HTTP connections of each process to one receiver (scheme, host and port) at once. They are used again; more requests wait for one to be free.',
    (config, value) => {
      config.connectionPoolSize = value;
    },
  ),
  {
    ...integer(
      'POSTHORN_MAX_QUEUE_SIZE',
      0,
      1,
      100_000_000,
      'Deliveries of one tenant that may wait or be under way, retries and scheduled ones included, those held for a paused webhook not: see [below](#a-full-queue).',
      (config, value) => {
        config.maxQueueSize = value;
      },
    ),
    default: 'no limit',
  },
  integer(
    'POSTHORN_DEAD_LETTER_THRESHOLD',
    50,
    1,
    50,
    'Attempts after which a delivery is a dead letter, whatever the retry policy of its webhook says.',
    (config, value) => {
      config.deadLetterThreshold = value;
    },
  ),
  integer(
    'POSTHORN_CLEANUP_INTERVAL',
    3_600,
    60,
    86_400,
    'Seconds between two rounds of maintenance (partitions, keys and answers whose time is over) and of [retention](retention.md).',
    (config, value) => {
      config.cleanupSeconds = value;
    },
  ),
  integer(
    'POSTHORN_DRAIN_SECONDS',
    20,
    0,
    600,
    'Seconds that a stop waits for requests under way.',
    (config, value) => {
      config.drainSeconds = value;
    },
  ),
  integer(
    'POSTHORN_PROCESSES',
    1,
    1,
    PROCESSES_MAX,
    'Processes that share the port and the database, such as one for each processor core. What is set for all requests and deliveries together is shared out among them.',
    (config, value) => {
      config.processes = value;
    },
  ),
  {
    env: 'POSTHORN_TRUSTED_PROXIES',
    default: 'none',
    description:
      'Comma-separated CIDRs of the reverse proxies before Posthorn: only what they say in `X-Forwarded-For` counts.',
    secret: false,
    read: (value, config) => {
      config.trustedProxies = listOf(value);
      return config.trustedProxies.every(isCidr)
        ? undefined
        : 'must be IP addresses and CIDRs such as 10.0.0.0/8, separated by commas';
    },
  },
  integer(
    'POSTHORN_AUTH_FAILURES_PER_MINUTE',
    20,
    1,
    1_000_000,
    'Requests without a valid key that one address (of IPv6: one /64) may send a minute before they are answered 429.',
    (config, value) => {
      config.authFailuresPerMinute = value;
    },
  ),
  defaultLimit('REQUESTS_PER_SECOND', LIMIT_MAX.perSecond, 'Requests a second', 'requests_per_second'),
  defaultLimit('EVENTS_PER_SECOND', LIMIT_MAX.perSecond, 'Events a second', 'events_per_second'),
  defaultLimit('EVENTS_PER_DAY', LIMIT_MAX.perDay, 'Events a day (UTC)', 'events_per_day'),
  defaultLimit('WEBHOOKS', LIMIT_MAX.webhooks, 'Webhooks', 'webhooks'),
  defaultLimit('PAYLOAD_BYTES', LIMIT_MAX.bytes, "Bytes of an event's data", 'payload_bytes'),
];

/** What stands between commas. */
function listOf(value: string): string[] {
  return value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** Whether a browser would send exactly this as `Origin`: lower case, no default port, no path. */
function isOrigin(text: string): boolean {
  return /^https?:\/\/[0-9a-z.:[\]-]+$/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}

function defaultLimit(name: string, max: number, what: string, field: keyof TenantLimits): Setting {
  const env = `POSTHORN_TENANT_${name}`;
  const description = `${what} that a tenant without a limit of its own may have.`;
  const setting = integer(env, 0, 1, max, description, (config, value) => {
    config.defaultLimits[field] = value;
  });
  return { ...setting, default: 'no limit' };
}

function integer(
  env: string,
  fallback: number,
  min: number,
  max: number,
  description: string,
  assign: (config: Config, value: number) => void,
): Setting {
  return {
    env,
    default: String(fallback),
    description: `${description} ${min} to ${max}.`,
    secret: false,
    read: (value, config) => {
      const number = Number(value);
      if (!/^\d{1,9}$/.test(value) || number < min || number > max)
        return `must be a whole number from ${min} to ${max}`;
      assign(config, number);
      return undefined;
    },
  };
}
