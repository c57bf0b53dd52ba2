import type pg from 'pg';
import { createAuthenticator } from './access/authenticator.ts';
import { hintOfRefused } from './access/credentials.ts';
import { registerJwtIssuerRoutes } from './access/jwt/routes.ts';
import { registerPortalTokenRoutes } from './access/portal-routes.ts';
import { registerApiKeyRoutes } from './access/routes.ts';
import { Capacity } from './alerts/capacity.ts';
import { registerAlertRoutes } from './alerts/routes.ts';
import { startAlertWorker } from './alerts/worker.ts';
import { registerAnalyticsRoutes } from './analytics/routes.ts';
import { createDenials } from './audit/denials.ts';
import { type AuditLog, createAuditLog } from './audit/log.ts';
import { registerAuditRoutes } from './audit/routes.ts';
import { createEventTypeDirectory } from './catalog/directory.ts';
import { registerEventTypeRoutes } from './catalog/routes.ts';
import { type ChangeNotices, createChangeNotices } from './change-notices.ts';
import { rememberRoutes } from './compat/canonical-routes.ts';
import { registerDocumentPaths } from './compat/document-paths.ts';
import type { Config } from './config.ts';
import type { DatabaseOutage } from './db/embedded-keeper.ts';
import { type DatabaseHandle, openDatabase, openEnginePool } from './db/pool.ts';
import { DeliveryEngine } from './delivery/engine.ts';
import { fetchDocument } from './delivery/fetch-document.ts';
import { registerDeadLetterRoutes } from './delivery/recovery/dead-letter-routes.ts';
import { registerReplayRoutes } from './delivery/recovery/replay-routes.ts';
import { registerDeliveryRoutes } from './delivery/routes.ts';
import { createSender } from './delivery/sender.ts';
import { registerDocumentRoutes } from './documents/document-routes.ts';
import { registerImportRoute } from './documents/import/routes.ts';
import { registerExportRoute } from './erasure/export-route.ts';
import { registerErasureRoutes } from './erasure/routes.ts';
import { directPublish } from './events/direct-publish.ts';
import { EventWriter } from './events/event-writer.ts';
import { registerFilterTestRoute } from './events/filter-test.ts';
import { type OperationalEvent, publishOperational } from './events/operational-event.ts';
import { startOperationalEvents } from './events/operational-events.ts';
import { registerPublishRoutes } from './events/publish-routes.ts';
import { Publisher } from './events/publisher.ts';
import { findEventId } from './events/queries.ts';
import { registerEventReplayRoute } from './events/replay.ts';
import { registerEventRoutes } from './events/routes.ts';
import { registerTestRoute } from './events/test-send.ts';
import type { Scope } from './http/caller.ts';
import { DirectServer } from './http/direct/direct-server.ts';
import { registerIdempotency } from './http/idempotency.ts';
import { registerOpenApi } from './http/openapi.ts';
import { createHttpServer, type HttpServer } from './http/server.ts';
import type { Clock } from './kernel/clock.ts';
import { createIdSource, type IdSource } from './kernel/ids.ts';
import type { Logger } from './kernel/logger.ts';
import type { SecretBox } from './kernel/secret-box.ts';
import { programVersion } from './kernel/version.ts';
import { createLimits } from './limits/limits.ts';
import { addStreamEntry, cancelledEntry } from './live/entries.ts';
import { LiveHub } from './live/hub.ts';
import { registerStreamRoute } from './live/routes.ts';
import { disableFailingWebhooks } from './operations/failing-webhooks.ts';
import { registerHealthRoutes } from './operations/health.ts';
import { type MetricsSnapshot, registerMetricsRoute } from './operations/metrics.ts';
import { registerRetentionRoutes } from './retention/routes.ts';
import { createSandbox } from './shaping/sandbox/sandbox.ts';
import { registerTemplateRoutes } from './templates/routes.ts';
import { createTenantDirectory } from './tenants/directory.ts';
import { createMaskerOf } from './tenants/masker-of.ts';
import { registerTenantRoutes } from './tenants/routes.ts';
import { createWebhookDirectory } from './webhooks/directory.ts';
import { createEgressGuard } from './webhooks/egress/guard.ts';
import { registerWebhookRoutes } from './webhooks/routes.ts';
import { disableWebhook } from './webhooks/status-commands.ts';
import type { WebhookStore } from './webhooks/store.ts';

export interface CompositionOptions {
  config: Pick<
    Config,
    | 'mode'
    | 'egressAllow'
    | 'egressProxy'
    | 'corsOrigins'
    | 'maxInFlight'
    | 'maxInFlightScaled'
    | 'maxQueued'
    | 'batchSize'
    | 'queueCheckSeconds'
    | 'connectionPoolSize'
    | 'maxQueueSize'
    | 'deadLetterThreshold'
    | 'trustedProxies'
    | 'authFailuresPerMinute'
    | 'defaultLimits'
  >;
  connection: pg.ClientConfig;
  operatorKey: string;
  box: SecretBox;
  /** No other Posthorn can be running on the database. */
  soleNode: boolean;
  /** Why the embedded database is away, when it is and that is known. */
  databaseOutage: () => DatabaseOutage | undefined;
  /** Connections of the API's pool at most (10). */
  apiConnectionsMax?: number;
  /** For one process of several: what they are together. */
  wholeProgram?: WholeProgram;
  logger: Logger;
  clock: Clock;
}

/** What a process of several says for all of them. */
export interface WholeProgram {
  /** For `/health/ready`, e.g. `2 of 2 running`. */
  processes(): string;
  /** Metrics of all processes in the text format. */
  metrics(): Promise<string>;
}

/** The parts of the program, tied together. Nothing is connected and nothing runs yet. */
export interface Composition {
  database: DatabaseHandle;
  enginePool: pg.Pool;
  engine: DeliveryEngine;
  http: HttpServer;
  /** Of callers, whatever is under way on them. */
  cutConnections: () => void;
  newId: IdSource;
  /** This process's own metrics, as `prom-client` adds them up. */
  metrics: () => Promise<MetricsSnapshot>;
  /** A row changed, on this node or another. */
  applyChange: ChangeNotices['applyChange'];
  /** Changes may have been missed. */
  forgetEverything: ChangeNotices['forgetEverything'];
  stopAuthenticator: () => Promise<void>;
  stopLimits: () => Promise<void>;
  audit: AuditLog;
  /** After the HTTP server, which refuses requests until it has stopped. */
  stopDenials: () => Promise<void>;
  /** The work of an hour's maintenance. */
  disableFailingWebhooks: (nowMs: number) => Promise<void>;
  /** Begins a round of retention; set once the node runs. */
  onRetentionAsked: { run: () => boolean };
  /** Publishes what is announced from now on. */
  startOperationalEvents: () => { stop(): Promise<void> };
  /** Looks at alert rules from now on. */
  startAlerts: () => { stop(): Promise<void> };
}

/** Ties the parts together. What flows back from a later part to an earlier one is a callback that is set here. */
export async function compose(options: CompositionOptions): Promise<Composition> {
  const { config, connection, box, logger, clock } = options;
  const database = openDatabase({
    connection,
    logger,
    ...(options.apiConnectionsMax !== undefined && { max: options.apiConnectionsMax }),
  });
  const { db, pool } = database;
  const enginePool = openEnginePool({ connection, logger });
  const newId = createIdSource(clock);
  const audit = createAuditLog({ newId });
  const denials = createDenials({ db, clock, newId, logger, hintOf: hintOfRefused });

  const tenants = createTenantDirectory({ db, clock, defaultLimits: config.defaultLimits });
  const maskerOf = createMaskerOf(tenants);
  const eventTypes = createEventTypeDirectory({ db, clock });
  const userAgent = `Posthorn/${programVersion()}`;
  const webhooks = createWebhookDirectory({ db, clock, box, logger, defaultUserAgent: userAgent });
  const limits = createLimits({
    tenants,
    pool,
    clock,
    alone: options.soleNode && options.wholeProgram === undefined,
  });
  const { webhooksMax, takeEvents, admit } = limits;
  const webhookStore: WebhookStore = {
    ...{ db, clock, newId, audit, box, directory: webhooks, webhooksMax },
  };
  const { egressAllow: allow, egressProxy: proxy } = config;
  const guard = createEgressGuard({ allow, proxy, requireHttps: config.mode === 'serve', clock });
  // Apart from the engine's, so that keys are fetched however many deliveries wait for connections.
  const sender = createSender({ clock, guard });
  const authenticator = createAuthenticator({
    db,
    box,
    clock,
    logger,
    tenants,
    operatorKey: options.operatorKey,
    fetchDocument: (url) => fetchDocument(sender, url, userAgent),
    failuresPerMinute: config.authFailuresPerMinute,
  });

  const sandbox = createSandbox();
  const engine = new DeliveryEngine({
    pool: enginePool,
    clock,
    newId,
    logger,
    random: Math.random,
    directory: webhooks,
    guard,
    sandbox,
    inFlightMax: config.maxInFlight,
    queuedMax: config.maxQueued,
    claimedMax: config.batchSize,
    sweepMs: config.queueCheckSeconds * 1000,
    connectionsMax: config.connectionPoolSize,
    attemptsMax: config.deadLetterThreshold,
    tenantQueueMax: config.maxQueueSize,
    soleNode: options.soleNode,
    onGone: async (task) => void (await disableWebhook(webhookStore, task, task.webhookId, 'gone')),
  });
  const writer = new EventWriter({ pool: enginePool, engine, clock, logger });
  const allowUnknownEventTypes = (tenantId: string) => {
    const settings = tenants.settings(tenantId);
    return settings instanceof Promise
      ? settings.then((known) => known.allow_unknown_event_types)
      : settings.allow_unknown_event_types;
  };
  const publisher = new Publisher({ eventTypes, allowUnknownEventTypes, webhooks, engine, writer, clock, newId });

  const capacity = new Capacity({
    ...{ db, clock, logger },
    usual: config.maxInFlight,
    raised: config.maxInFlightScaled ?? 2 * config.maxInFlight,
    apply: (inFlightMax) => {
      engine.inFlightMax = inFlightMax;
    },
  });
  const live = new LiveHub({ db, clock, logger, authenticate: authenticator.authenticate, tenants });
  const parts = { authenticator, tenants, eventTypes, webhooks, engine, live, capacity };
  const { applyChange, forgetEverything } = createChangeNotices(parts);

  const { databaseOutage, wholeProgram } = options;
  const { authenticate, recognize } = authenticator;
  const { trustedProxies, corsOrigins } = config;
  const onDenied = denials.add;
  const http = createHttpServer({ logger, authenticate, admit, onDenied, trustedProxies, databaseOutage, corsOrigins });
  await registerOpenApi(http, programVersion());
  const canonical = rememberRoutes(http);
  registerIdempotency(http, { db, box, clock });
  registerHealthRoutes(http, {
    pool,
    engineHealthy: () => engine.healthy,
    databaseOutage,
    processes: () => wholeProgram?.processes(),
  });
  const metrics = registerMetricsRoute(http, {
    ...{ engine, writer, live, capacity, sandbox },
    wholeProgram: wholeProgram?.metrics,
  });
  registerTenantRoutes(http, { db, clock, newId, audit, onChange: applyChange });
  registerApiKeyRoutes(http, { db, clock, newId, audit, box, onChange: applyChange });
  registerPortalTokenRoutes(http, { db, clock, audit, box, onChange: applyChange });
  const judgeUrl = async (text: string) => {
    const verdict = guard.judgeUrl(text);
    return verdict.ok ? guard.judgeHostByLookup(verdict.url.hostname) : verdict.reason;
  };
  registerJwtIssuerRoutes(http, { db, clock, newId, audit, box, judgeUrl, onChange: applyChange });
  registerEventTypeRoutes(http, { db, clock, audit, onChange: applyChange });
  registerImportRoute(http, { db, clock, audit, onChange: applyChange });
  registerDocumentRoutes(http, { db, userAgent });
  registerWebhookRoutes(http, { ...webhookStore, guard, eventTypes, tenants, maskerOf, sandbox });
  registerTemplateRoutes(http, { ...webhookStore, eventTypes, maskerOf, sandbox, guard });
  registerPublishRoutes(http, { publisher, clock, takeEvents });
  const direct = new DirectServer(
    http.server,
    clock,
    directPublish({ recognize, admit, takeEvents, publisher, clock, logger, databaseOutage }),
  );
  http.addHook('preClose', (done) => {
    direct.close();
    done();
  });
  registerEventRoutes(http, { db, clock, audit, maskerOf });
  registerEventReplayRoute(http, { db, clock, newId, audit, webhooks });
  const eventIdOf = (scope: Scope, id: string) => findEventId(db, scope, id);
  registerDeliveryRoutes(http, {
    db,
    clock,
    audit,
    webhooks,
    maskerOf,
    findEventId: eventIdOf,
    onCancelled: (trx, row) =>
      addStreamEntry(trx, { tenantId: row.tenant_id, environmentId: row.environment_id }, cancelledEntry(row, newId())),
  });
  const recovery = { db, clock, newId, audit, webhooks, findEventId: eventIdOf };
  registerDeadLetterRoutes(http, recovery);
  registerReplayRoutes(http, recovery);
  registerErasureRoutes(http, { db, box, clock, newId, audit });
  registerExportRoute(http, { db, clock, audit });
  const onRetentionAsked = { run: () => false };
  registerRetentionRoutes(http, { db, audit, runNow: () => onRetentionAsked.run() });
  registerFilterTestRoute(http, { db, clock, maskerOf });
  registerTestRoute(http, { db, eventTypes, webhooks, maskerOf, engine, writer, clock, newId, audit });
  registerAnalyticsRoutes(http, { db, clock, webhooks });
  registerAuditRoutes(http, { db, audit });
  registerAlertRoutes(http, { db, clock, newId, audit, webhooks });
  registerStreamRoute(http, { db, webhooks, hub: live });
  // When all that they stand for is there.
  registerDocumentPaths(http, canonical, { db });

  return {
    database,
    enginePool,
    engine,
    http,
    cutConnections: () => {
      direct.destroy();
      http.server.closeAllConnections();
    },
    newId,
    metrics,
    applyChange,
    forgetEverything,
    stopAuthenticator: async () => {
      await sender.stop();
      await sandbox.stop();
      await authenticator.stop();
    },
    stopLimits: () => limits.stop(),
    audit,
    stopDenials: denials.stop,
    disableFailingWebhooks: (nowMs) => disableFailingWebhooks(webhookStore, nowMs),
    onRetentionAsked,
    startOperationalEvents: () => startOperationalEvents({ publisher, webhooks, db, clock, logger }),
    startAlerts: () => {
      const publish = (event: OperationalEvent) => publishOperational(publisher, event);
      const worker = startAlertWorker({ db, clock, newId, publish, logger });
      return {
        async stop() {
          capacity.stop();
          await worker.stop();
        },
      };
    },
  };
}
