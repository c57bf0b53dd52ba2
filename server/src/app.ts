import { randomBytes } from 'node:crypto';
import { createAuthenticator } from './access/authenticator.ts';
import { registerApiKeyRoutes } from './access/routes.ts';
import { createEventTypeDirectory } from './catalog/directory.ts';
import { registerEventTypeRoutes } from './catalog/routes.ts';
import type { Config } from './config.ts';
import { migrate } from './db/migrate.ts';
import { type Change, listenForChanges } from './db/notify.ts';
import { ensurePartitions } from './db/partitions.ts';
import { openDatabase, openEnginePool } from './db/pool.ts';
import { DeliveryEngine } from './delivery/engine.ts';
import { registerDeliveryRoutes } from './delivery/routes.ts';
import { EventWriter } from './events/event-writer.ts';
import { registerPublishRoutes } from './events/publish-routes.ts';
import { Publisher } from './events/publisher.ts';
import { findEventId, purgeEventKeys } from './events/queries.ts';
import { registerEventRoutes } from './events/routes.ts';
import { registerTestRoute } from './events/test-send.ts';
import { registerIdempotency } from './http/idempotency.ts';
import { purgeIdempotentRequests } from './http/idempotency-queries.ts';
import { registerOpenApi } from './http/openapi.ts';
import { createHttpServer, type HttpServer } from './http/server.ts';
import { type Clock, systemClock } from './kernel/clock.ts';
import { createIdSource } from './kernel/ids.ts';
import { createLogger, type Logger } from './kernel/logger.ts';
import { createSecretBox, parseEncryptionKey, type SecretBox } from './kernel/secret-box.ts';
import { StartupError } from './kernel/startup-error.ts';
import { programVersion } from './kernel/version.ts';
import { registerHealthRoutes } from './operations/health.ts';
import { startMaintenance } from './operations/maintenance.ts';
import { registerMetricsRoute } from './operations/metrics.ts';
import { openStorage, type Storage } from './storage.ts';
import { ensureDefaultTenant } from './tenants/default-tenant.ts';
import { createTenantDirectory } from './tenants/directory.ts';
import { registerTenantRoutes } from './tenants/routes.ts';
import { setWebhookStatus } from './webhooks/commands.ts';
import { createWebhookDirectory } from './webhooks/directory.ts';
import { createEgressGuard } from './webhooks/egress/guard.ts';
import { registerWebhookRoutes } from './webhooks/routes.ts';

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
 * Puts the parts together and starts them: storage, schema, caches, engine, HTTP.
 *
 * @throws StartupError with one line when something outside makes it impossible; whatever was started is stopped.
 */
export async function startPosthorn(
  config: Config,
  options: { logger?: Logger; clock?: Clock } = {},
): Promise<RunningPosthorn> {
  const logger = options.logger ?? createLogger(config.logLevel);
  const clock = options.clock ?? systemClock;
  const started: (() => Promise<void>)[] = [];
  const stopAll = async () => {
    for (let stop = started.pop(); stop !== undefined; stop = started.pop()) await stop();
  };
  try {
    const storage = await openStorage(config, logger);
    started.push(() => storage.close());
    const keys = await readKeys(config, storage);
    const parts = await assemble({ config, storage, keys, logger, clock, started });
    const url = await listen(parts.http, config);
    started.push(() => parts.http.close());
    return {
      url,
      operatorKey: keys.operatorKey,
      firstStart: keys.operatorKeyIsNew,
      databaseDescription: storage.description,
      stop: stopAll,
      failed: storage.died,
    };
  } catch (error) {
    await stopAll();
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
  const encryptionKey =
    config.encryptionKey ??
    parseEncryptionKey(
      (await directory?.readOrCreateSecret('encryption.key', () => randomBytes(32).toString('hex'))) ?? '',
    );
  if (operatorKey === undefined || encryptionKey === undefined) {
    throw new StartupError('The file encryption.key in the data folder does not hold a key: 64 hex digits are needed.');
  }
  return { operatorKey, operatorKeyIsNew, box: createSecretBox(encryptionKey) };
}

interface Assembly {
  config: Config;
  storage: Storage;
  keys: Keys;
  logger: Logger;
  clock: Clock;
  /** What must be stopped, in the order it was started. */
  started: (() => Promise<void>)[];
}

async function assemble({ config, storage, keys, logger, clock, started }: Assembly): Promise<{ http: HttpServer }> {
  const { connection } = storage;
  const { box } = keys;
  const { db, pool, close } = openDatabase({ connection, logger });
  started.push(close);
  await migrate(pool);
  await ensurePartitions(pool, clock.now());
  const newId = createIdSource(clock);
  await ensureDefaultTenant({ db, clock, newId, settings: { allow_unknown_event_types: config.mode === 'dev' } });

  const tenants = createTenantDirectory({ db, clock });
  const eventTypes = createEventTypeDirectory({ db, clock });
  const webhooks = createWebhookDirectory({ db, clock, box, logger, defaultUserAgent: `Posthorn/${programVersion()}` });
  const webhookStore = { db, clock, newId, box, directory: webhooks };
  const authenticator = createAuthenticator({ db, box, clock, logger, tenants, operatorKey: keys.operatorKey });
  started.push(() => authenticator.stop());
  const guard = createEgressGuard({ allow: config.egressAllow, requireHttps: config.mode === 'serve', clock });

  const enginePool = openEnginePool({ connection, logger });
  started.push(() => enginePool.end());
  const engine = new DeliveryEngine({
    pool: enginePool,
    clock,
    newId,
    logger,
    random: Math.random,
    directory: webhooks,
    guard,
    inFlightMax: config.maxInFlight,
    queuedMax: config.maxQueued,
    soleNode: storage.exclusive,
    onGone: (task) => setWebhookStatus(webhookStore, task, task.webhookId, 'disabled', 'gone'),
  });
  const writer = new EventWriter({ pool: enginePool, engine, logger });

  const applyChange = (change: Change) => {
    const { topic, tenantId, environmentId } = change;
    if (topic === 'tenants' || topic === 'api_keys') authenticator.invalidate(tenantId);
    if (topic === 'tenants') tenants.invalidate(tenantId);
    if (topic === 'tenants' || topic === 'event_types') eventTypes.invalidate(tenantId, environmentId);
    // A preset that was installed changes what the environment's webhooks send.
    if (topic !== 'api_keys' && topic !== 'deliveries_due') webhooks.invalidate(tenantId, environmentId);
    if (topic === 'webhooks' || topic === 'deliveries_due') engine.lookForDue();
  };
  const listener = listenForChanges({
    connection,
    clock,
    logger,
    onChange: applyChange,
    onReset: () => {
      for (const cache of [authenticator, tenants, eventTypes, webhooks]) cache.invalidateAll();
      engine.lookForDue();
    },
  });
  started.push(() => listener.stop());

  await engine.start();
  started.push(() => engine.stop(config.drainSeconds * 1000));
  const maintenance = startMaintenance({
    clock,
    logger,
    tasks: [
      { name: 'partitions', run: (nowMs) => ensurePartitions(pool, nowMs) },
      { name: 'event keys', run: (nowMs) => purgeEventKeys(db, nowMs) },
      { name: 'idempotent requests', run: (nowMs) => purgeIdempotentRequests(db, nowMs) },
    ],
  });
  started.push(() => maintenance.stop());

  const allowUnknownEventTypes = (tenantId: string) => {
    const settings = tenants.settings(tenantId);
    return settings instanceof Promise
      ? settings.then((known) => known.allow_unknown_event_types)
      : settings.allow_unknown_event_types;
  };
  const publisher = new Publisher({ eventTypes, allowUnknownEventTypes, webhooks, engine, writer, clock, newId });

  const http = createHttpServer({ logger, authenticate: authenticator.authenticate });
  await registerOpenApi(http, programVersion());
  registerIdempotency(http, { db, box, clock });
  const onChange = applyChange;
  registerHealthRoutes(http, { pool, engineHealthy: () => engine.healthy });
  registerMetricsRoute(http, { engine, writer });
  registerTenantRoutes(http, { db, clock, newId, onChange });
  registerApiKeyRoutes(http, { db, clock, newId, box, onChange });
  registerEventTypeRoutes(http, { db, clock, onChange });
  registerWebhookRoutes(http, { ...webhookStore, guard, eventTypes, tenants });
  registerPublishRoutes(http, { publisher, clock });
  registerEventRoutes(http, { db });
  registerDeliveryRoutes(http, { db, clock, webhooks, findEventId: (scope, id) => findEventId(db, scope, id) });
  registerTestRoute(http, { db, eventTypes, webhooks, engine, writer, clock, newId });
  return { http };
}

/** @throws StartupError when the address cannot be listened on. */
async function listen(http: HttpServer, config: Config): Promise<string> {
  try {
    return await http.listen({ host: config.host, port: config.port });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const where = `${config.host}:${config.port}`;
    if (code === 'EADDRINUSE')
      throw new StartupError(`${where} is taken: another program listens there. Set POSTHORN_PORT to a free port.`);
    if (code === 'EACCES')
      throw new StartupError(`${where} may not be listened on: ports under 1024 need more rights.`);
    if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
      throw new StartupError(`${config.host} is not an address of this machine. Set POSTHORN_HOST.`);
    }
    throw error;
  }
}
