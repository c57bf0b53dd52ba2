import { resolve } from 'node:path';
import { readConfigFile } from './config-file.ts';
import type { LogLevel } from './kernel/logger.ts';
import { StartupError } from './kernel/startup-error.ts';
import { CONFIG_FILE, SETTINGS } from './settings.ts';
import { NO_LIMITS, type TenantLimits } from './tenants/types.ts';
import type { EgressProxy } from './webhooks/egress/proxy.ts';

/** How the program runs: `dev` is lenient and keeps everything in one folder, `serve` is strict. */
export type Mode = 'dev' | 'serve';

export interface Config {
  mode: Mode;
  host: string;
  /** TCP port; 0 takes a free one. */
  port: number;
  /** Absolute path. */
  dataDir: string;
  /** undefined: the embedded PostgreSQL in `dataDir`. */
  databaseUrl: string | undefined;
  operatorKey: string | undefined;
  /** 32 bytes; undefined in dev mode means: kept in `dataDir`. */
  encryptionKey: Buffer | undefined;
  /** 32 bytes: the one before `encryptionKey`, while that takes its place. */
  previousEncryptionKey: Buffer | undefined;
  /** CIDRs and host names that deliveries may reach although they are not public. */
  egressAllow: string[];
  /** undefined: deliveries go straight out. */
  egressProxy: EgressProxy | undefined;
  /** Origins whose pages may read the API's answers in a browser. */
  corsOrigins: string[];
  logLevel: LogLevel;
  /** Requests that may be under way to receivers at once, all tenants together. */
  maxInFlight: number;
  /** The same while an alert asks for more capacity; undefined: twice `maxInFlight`. */
  maxInFlightScaled: number | undefined;
  /** Deliveries that may wait in memory; more wait in their rows. */
  maxQueued: number;
  /** Waiting deliveries that are taken from the database at once. */
  batchSize: number;
  /** Seconds between two looks for deliveries that wait and of which this process was not told. */
  queueCheckSeconds: number;
  /** Connections of a process to one receiver at once. */
  connectionPoolSize: number;
  /** Deliveries of a tenant that may wait before its events are refused; undefined: any number. */
  maxQueueSize: number | undefined;
  /** Attempts after which a delivery is a dead letter, whatever its webhook's retry policy says. */
  deadLetterThreshold: number;
  /** Seconds between two rounds of maintenance and of retention. */
  cleanupSeconds: number;
  /** Seconds that a stop waits for requests under way. */
  drainSeconds: number;
  /** Processes that share the port and the database. */
  processes: number;
  /** CIDRs of proxies whose `X-Forwarded-For` says where a request came from. */
  trustedProxies: string[];
  /** Failed authentications a minute from one address. */
  authFailuresPerMinute: number;
  /** Of tenants that have none of their own. */
  defaultLimits: TenantLimits;
}

/**
 * Reads the environment, and the file that it names. What the environment says goes before what the file says.
 *
 * @throws StartupError naming the first variable that is unknown or has a bad value, without repeating secret values.
 */
export function readConfig(mode: Mode, env: NodeJS.ProcessEnv): Config {
  const dev = mode === 'dev';
  const config: Config = {
    mode,
    host: '127.0.0.1',
    port: 7678,
    dataDir: resolve('.posthorn'),
    databaseUrl: undefined,
    operatorKey: undefined,
    encryptionKey: undefined,
    previousEncryptionKey: undefined,
    egressAllow: dev ? ['127.0.0.0/8', '::1/128', 'localhost'] : [],
    egressProxy: undefined,
    corsOrigins: [],
    logLevel: dev ? 'warn' : 'info',
    maxInFlight: 1_024,
    maxInFlightScaled: undefined,
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
    defaultLimits: { ...NO_LIMITS },
  };
  const file = env[CONFIG_FILE];
  if (file !== undefined && file !== '') readFile(file, env, config);
  for (const [name, value] of Object.entries(env)) {
    const setting = SETTINGS.find((known) => known.env === name);
    if (setting === undefined) {
      if (name.startsWith('POSTHORN_')) throw new StartupError(unknownVariable(name));
      continue;
    }
    const problem = setting.read(value ?? '', config);
    if (problem !== undefined) {
      throw new StartupError(`${name} ${problem}${setting.secret ? '' : `; it is ${JSON.stringify(value)}`}.`);
    }
  }
  const { POSTHORN_MAX_IN_FLIGHT: inFlight, POSTHORN_MAX_CONCURRENT_DELIVERIES: concurrent } = env;
  if (inFlight !== undefined && concurrent !== undefined && Number(inFlight) !== Number(concurrent)) {
    throw new StartupError(
      'POSTHORN_MAX_IN_FLIGHT and POSTHORN_MAX_CONCURRENT_DELIVERIES are two names of one setting: set only one of them.',
    );
  }
  if (mode === 'serve' && config.encryptionKey === undefined) {
    throw new StartupError(
      'POSTHORN_ENCRYPTION_KEY is needed by `posthorn serve`: set it to the output of `openssl rand -hex 32` and keep it safe.',
    );
  }
  if (config.previousEncryptionKey !== undefined && config.encryptionKey === undefined) {
    throw new StartupError(
      'POSTHORN_ENCRYPTION_KEY_PREVIOUS is of use only beside POSTHORN_ENCRYPTION_KEY, which takes its place.',
    );
  }
  return config;
}

/** Settings that are one, under two names. */
const SAME: Readonly<Record<string, string>> = {
  POSTHORN_MAX_IN_FLIGHT: 'POSTHORN_MAX_CONCURRENT_DELIVERIES',
  POSTHORN_MAX_CONCURRENT_DELIVERIES: 'POSTHORN_MAX_IN_FLIGHT',
};

function readFile(path: string, env: NodeJS.ProcessEnv, config: Config): void {
  for (const { env: variable, value, name } of readConfigFile(path)) {
    const setting = SETTINGS.find((known) => known.env === variable);
    if (setting === undefined || variable === CONFIG_FILE) {
      throw new StartupError(`${path}: ${name} is not a setting of Posthorn.`);
    }
    if (setting.secret) throw new StartupError(`${path}: ${name} is a secret; set ${variable} in the environment.`);
    // It was said otherwise, perhaps under its other name.
    if (env[variable] !== undefined || env[SAME[variable] ?? ''] !== undefined) continue;
    const problem = setting.read(value, config);
    if (problem !== undefined) throw new StartupError(`${path}: ${name} ${problem}; it is ${JSON.stringify(value)}.`);
  }
}

function unknownVariable(name: string): string {
  const known = SETTINGS.map((setting) => setting.env).filter((env) => env.startsWith('POSTHORN_'));
  return `${name} is not a setting of Posthorn; the settings are ${known.join(', ')}.`;
}
