import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { type Config, readConfig } from '../config.ts';
import { CommandError } from './command-error.ts';

/** What the options of a client command say about the server to talk to. */
export interface ConnectionOptions {
  url?: string;
  key?: string;
  tenant?: string;
  environment?: string;
}

/** A server and who to be there. */
export interface Connection {
  /** Without a slash at its end. */
  url: string;
  key: string;
  /** Where the key was found, for the text of a refusal. */
  keySource: string;
  /** Sent as `X-Tenant-Id`; undefined leaves it to the server (the key's own tenant, or `default`). */
  tenant: string | undefined;
  /** Sent as `X-Environment`; undefined leaves it to the server (the key's own, or `production`). */
  environment: string | undefined;
}

/** Adds the options that name the server and the key. */
export function addConnectionOptions(command: Command): Command {
  return command
    .option('--url <url>', 'server to talk to (default: http://127.0.0.1:<POSTHORN_PORT or 7678>)')
    .option('--key <key>', 'key to use (default: POSTHORN_OPERATOR_KEY, else operator.key of the data folder)')
    .option('--tenant <id or slug>', 'tenant to act for with the operator key (default: the one called default)')
    .option('--environment <name>', 'environment to act in with the operator key (default: production)');
}

/** @throws CommandError when the URL cannot be one of a server, or no key is found. */
export function resolveConnection(options: ConnectionOptions, env: NodeJS.ProcessEnv): Connection {
  const config = readConfig('dev', env);
  return {
    url: resolveServerUrl(options.url, config),
    ...findKey(options.key, config),
    tenant: headerValue('--tenant', options.tenant),
    environment: headerValue('--environment', options.environment),
  };
}

/** @throws CommandError for anything but an http or https URL. */
export function resolveServerUrl(given: string | undefined, config: Config): string {
  if (given === undefined) {
    if (config.port === 0) {
      throw new CommandError('POSTHORN_PORT is 0, so the port is not known here: name the server with --url.');
    }
    return `http://${hostToReach(config.host)}:${config.port}`;
  }
  const url = URL.parse(given);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw new CommandError('--url must be an http or https URL, such as http://127.0.0.1:7678.');
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new CommandError('--url must be a plain address, without a user name, "?" or "#"; the key goes into --key.');
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

/** The file of the data folder that keeps the operator key. */
export function operatorKeyFile(config: Config): string {
  return path.join(config.dataDir, 'operator.key');
}

/** The kept operator key; undefined when there is no such file. @throws CommandError when it cannot be read. */
export function readOperatorKey(config: Config): string | undefined {
  const file = operatorKeyFile(config);
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new CommandError(`${file} cannot be read (${code}): run this as the user who started Posthorn.`);
  }
}

/** A server that listens everywhere, or on the address that means "any", is reached over loopback. */
function hostToReach(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}

function findKey(given: string | undefined, config: Config): { key: string; keySource: string } {
  const key = headerValue('--key', given);
  if (key !== undefined) return { key, keySource: '--key' };
  if (config.operatorKey !== undefined) return { key: config.operatorKey, keySource: 'POSTHORN_OPERATOR_KEY' };
  const file = operatorKeyFile(config);
  const kept = headerValue(file, readOperatorKey(config));
  if (kept !== undefined) return { key: kept, keySource: file };
  throw new CommandError(
    `There is no key in ${config.dataDir}: start Posthorn from this folder first ("npx posthorn dev"), or give a key with --key or POSTHORN_OPERATOR_KEY.`,
  );
}

function headerValue(name: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  if (!/^[\x21-\x7e]{1,4096}$/.test(value)) {
    throw new CommandError(`${name} must hold printable ASCII characters without blanks.`);
  }
  return value;
}
