import { randomBytes } from 'node:crypto';
import { compose } from './composition.ts';
import type { Config } from './config.ts';
import { checkEncryptionKey } from './db/encryption-check.ts';
import { migrate } from './db/migrate.ts';
import { listenForChanges } from './db/notify.ts';
import { ensurePartitions } from './db/partitions.ts';
import { purgeReplayJobs } from './delivery/recovery/jobs.ts';
import { startReplayWorker } from './delivery/recovery/worker.ts';
import { purgeEventKeys } from './events/queries.ts';
import { purgeIdempotentRequests } from './http/idempotency-queries.ts';
import type { HttpServer } from './http/server.ts';
import { type Clock, systemClock } from './kernel/clock.ts';
import { createLogger, type Logger } from './kernel/logger.ts';
import { createSecretBox, parseEncryptionKey, type SecretBox } from './kernel/secret-box.ts';
import { StartupError } from './kernel/startup-error.ts';
import { startMaintenance } from './operations/maintenance.ts';
import { openStorage, type Storage } from './storage.ts';
import { ensureDefaultTenant } from './tenants/default-tenant.ts';

export interface RunningPosthorn {
  /** Where it listens, e.g. `http://127.0.0.1:7678`. */
  url: string;
  operatorKey: string;
  /** The operator key was made by this start. */
  firstStart: boolean;
  databaseDescription: string;
  /** Finishes what is under way, gives back what waits, and closes everything. */
  stop(): Promise<void>;
  /** Resolves when it can no longer run; `stop` must still be called. */
  failed: Promise<Error>;
}

/**
 * Starts the program: storage, schema, engine, HTTP, in this order, and stops them in the opposite one.
 *
 * @throws StartupError with one line when something outside makes it impossible; whatever was started is stopped.
 */
export async function startPosthorn(
  config: Config,
  options: { logger?: Logger; clock?: Clock } = {},
): Promise<RunningPosthorn> {
  const logger = options.logger ?? createLogger(config.logLevel);
  const clock = options.clock ?? systemClock;
  const running: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (let last = running.pop(); last !== undefined; last = running.pop()) await last();
  };
  try {
    const storage = await openStorage(config, logger);
    running.push(() => storage.close());
    const keys = await readKeys(config, storage);
    const { connection } = storage;
    const parts = await compose({ ...keys, config, connection, soleNode: storage.exclusive, logger, clock });
    const { db, pool } = parts.database;
    running.push(() => parts.database.close());
    running.push(() => parts.enginePool.end());

    await migrate(pool);
    await checkEncryptionKey(pool, keys.box);
    await ensurePartitions(pool, clock.now());
    const settings = { allow_unknown_event_types: config.mode === 'dev' };
    await ensureDefaultTenant({ db, clock, newId: parts.newId, settings });

    running.push(parts.stopAuthenticator);
    running.push(parts.stopOperationalEvents);
    const { applyChange, forgetEverything } = parts;
    const changes = listenForChanges({ connection, clock, logger, onChange: applyChange, onReset: forgetEverything });
    running.push(() => changes.stop());
    await parts.engine.start();
    running.push(() => parts.engine.stop(config.drainSeconds * 1000));
    const maintenance = startMaintenance({
      clock,
      logger,
      tasks: [
        { name: 'partitions', run: (nowMs) => ensurePartitions(pool, nowMs) },
        { name: 'event keys', run: (nowMs) => purgeEventKeys(db, nowMs) },
        { name: 'idempotent requests', run: (nowMs) => purgeIdempotentRequests(db, nowMs) },
        { name: 'replay jobs', run: (nowMs) => purgeReplayJobs(db, nowMs) },
        { name: 'failing webhooks', run: parts.disableFailingWebhooks },
      ],
    });
    running.push(() => maintenance.stop());
    const replays = startReplayWorker({ db, clock, newId: parts.newId, logger });
    running.push(() => replays.stop());
    const url = await listen(parts.http, config);
    running.push(() => parts.http.close());
    return {
      url,
      operatorKey: keys.operatorKey,
      firstStart: keys.operatorKeyIsNew,
      databaseDescription: storage.description,
      stop,
      failed: storage.died,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

interface Keys {
  operatorKey: string;
  operatorKeyIsNew: boolean;
  box: SecretBox;
}

async function readKeys(config: Config, { directory }: Storage): Promise<Keys> {
  let operatorKeyIsNew = false;
  const operatorKey =
    config.operatorKey ??
    (await directory?.readOrCreateSecret('operator.key', () => {
      operatorKeyIsNew = true;
      return `pho_${randomBytes(32).toString('base64url')}`;
    }));
  const encryptionKey = config.encryptionKey ?? (await readEncryptionKey(directory));
  if (operatorKey === undefined || encryptionKey === undefined) {
    throw new StartupError('encryption.key in the data folder does not hold a key: 64 hex digits are needed.');
  }
  return { operatorKey, operatorKeyIsNew, box: createSecretBox(encryptionKey) };
}

async function readEncryptionKey(directory: Storage['directory']): Promise<Buffer | undefined> {
  const text = await directory?.readOrCreateSecret('encryption.key', () => randomBytes(32).toString('hex'));
  return parseEncryptionKey(text ?? '');
}

/** @throws StartupError when the address cannot be listened on. */
async function listen(http: HttpServer, config: Config): Promise<string> {
  try {
    return await http.listen({ host: config.host, port: config.port });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const where = `${config.host}:${config.port}`;
    switch (code) {
      case 'EADDRINUSE':
        throw new StartupError(`${where} is taken by another program: stop it, or set POSTHORN_PORT to a free port.`);
      case 'EACCES':
        throw new StartupError(
          `${where} may not be listened on: ports under 1024 need more rights. Set POSTHORN_PORT.`,
        );
      case 'EADDRNOTAVAIL':
      case 'ENOTFOUND':
        throw new StartupError(`${config.host} is not an address of this machine. Set POSTHORN_HOST.`);
      default:
        throw error;
    }
  }
}
