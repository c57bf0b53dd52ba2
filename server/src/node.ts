import type pg from 'pg';
import { purgePortalRevocations } from './access/portal-revocations.ts';
import { purgeIncidents } from './alerts/incident-rows.ts';
import { purgeRollups, startRollupWorker } from './analytics/rollup-worker.ts';
import { removeEntriesBefore } from './audit/queries.ts';
import { type Composition, type CompositionOptions, compose } from './composition.ts';
import type { Config } from './config.ts';
import { listenForChanges } from './db/notify.ts';
import { ensurePartitions } from './db/partitions.ts';
import { purgeReplayJobs } from './delivery/recovery/jobs.ts';
import { startReplayWorker } from './delivery/recovery/worker.ts';
import { foldTallies } from './delivery/totals.ts';
import type { MasterKeySource } from './encryption/key-files.ts';
import { startKeyKeeper } from './encryption/key-keeper.ts';
import { KeyRing } from './encryption/key-ring.ts';
import { purgeErasureJobs } from './erasure/jobs.ts';
import { startErasureWorker } from './erasure/worker.ts';
import { purgeAnnouncementPaces } from './events/announcement-rows.ts';
import { purgeEventKeys } from './events/queries.ts';
import { purgeIdempotentRequests } from './http/idempotency-queries.ts';
import { listen } from './http/listen.ts';
import type { Clock } from './kernel/clock.ts';
import { endsBy } from './kernel/deadline.ts';
import { createSecretBox } from './kernel/secret-box.ts';
import { purgeRateLimits } from './limits/ledgers.ts';
import { purgeStreamEntries } from './live/entries.ts';
import { startMaintenance } from './operations/maintenance.ts';
import { startRetention } from './retention/worker.ts';
import { startRemovalWorker } from './tenants/removal.ts';

export interface NodeOptions extends Omit<CompositionOptions, 'box'> {
  config: Config;
  connection: pg.ClientConfig;
  masterKeys: MasterKeySource;
}

/** One process's share of the program: it takes requests and delivers. */
export interface RunningNode {
  /** Where it listens, e.g. `http://127.0.0.1:7678`. */
  url: string;
  /** Its number in the database at the moment; a node that was taken for dead gets a new one. */
  nodeId(): number;
  metrics: Composition['metrics'];
  /**
   * Finishes what is under way within `drainSeconds`, gives back what waits, and closes everything; `STOP_GRACE_MS` later
   * it waits for nothing more.
   */
  stop(): Promise<void>;
}

/**
 * Starts a node on a database that is prepared: keys, caches, engine, HTTP, in this order, and stops them in the opposite
 * one.
 *
 * @throws StartupError when the address cannot be listened on or the keys cannot be opened; whatever was started is stopped.
 */
export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const { config, connection, logger, clock } = options;
  const drainMs = config.drainSeconds * 1000;
  let drainedByMs = Number.POSITIVE_INFINITY;
  const running: (() => Promise<unknown>)[] = [];
  /** What of it waits for a database that does not answer must leave the engine its time. */
  const beforeDrained = (work: Promise<void>) => endsBy(clock, drainedByMs, work);
  const stop = async () => {
    drainedByMs = clock.monotonicMs() + drainMs;
    // A database that does not answer closes no connection either.
    const endMs = drainedByMs + STOP_GRACE_MS;
    for (let last = running.pop(); last !== undefined; last = running.pop()) {
      await endsBy(clock, endMs, last());
    }
  };
  try {
    const ring = new KeyRing();
    const box = createSecretBox(ring);
    const parts = await compose({ ...options, box });
    const { db, pool } = parts.database;
    running.push(() => parts.database.close());
    running.push(() => parts.enginePool.end());
    running.push(parts.stopAuthenticator);
    running.push(parts.stopLimits);
    running.push(parts.stopDenials);
    const source = options.masterKeys;
    const keys = await startKeyKeeper({ pool, ring, source, clock, newId: parts.newId, logger });
    running.push(() => keys.stop());
    const changes = listenForChanges({
      connection,
      clock,
      logger,
      onChange: (change) => {
        if (change.topic === 'encryption_keys') void keys.refresh();
        else parts.applyChange(change);
      },
      onReset: () => {
        void keys.refresh();
        parts.forgetEverything();
      },
    });
    running.push(() => changes.stop());
    await parts.engine.start();
    running.push(() => parts.engine.stop(Math.max(0, drainedByMs - clock.monotonicMs())));
    const everyMs = config.cleanupSeconds * 1000;
    const maintenance = startMaintenance({
      clock,
      logger,
      everyMs,
      tasks: [
        { name: 'partitions', run: (nowMs) => ensurePartitions(pool, nowMs) },
        { name: 'event keys', run: (nowMs) => purgeEventKeys(db, nowMs) },
        { name: 'idempotent requests', run: (nowMs) => purgeIdempotentRequests(db, nowMs) },
        { name: 'rate limits', run: () => purgeRateLimits(pool) },
        { name: 'replay jobs', run: (nowMs) => purgeReplayJobs(db, nowMs) },
        { name: 'webhook totals', run: () => foldTallies(parts.enginePool) },
        { name: 'rollups', run: (nowMs) => purgeRollups(pool, nowMs) },
        { name: 'portal revocations', run: (nowMs) => purgePortalRevocations(db, nowMs) },
        { name: 'erasures', run: (nowMs) => purgeErasureJobs(db, nowMs) },
        { name: 'announcement paces', run: (nowMs) => purgeAnnouncementPaces(db, nowMs) },
        { name: 'incidents', run: (nowMs) => purgeIncidents(db, nowMs) },
        { name: 'stream entries', run: (nowMs) => purgeStreamEntries(db, nowMs) },
        { name: 'failing webhooks', run: parts.disableFailingWebhooks },
      ],
    });
    running.push(() => beforeDrained(maintenance.stop()));
    const rollups = startRollupWorker({ pool: parts.enginePool, clock, logger });
    running.push(() => beforeDrained(rollups.stop()));
    const replays = startReplayWorker({ db, clock, newId: parts.newId, logger });
    running.push(() => beforeDrained(replays.stop()));
    const removals = startRemovalWorker({ db, clock, logger });
    running.push(() => beforeDrained(removals.stop()));
    const erasures = startErasureWorker({ db, connection, box, audit: parts.audit, clock, logger });
    running.push(() => beforeDrained(erasures.stop()));
    const operationalEvents = parts.startOperationalEvents();
    running.push(() => beforeDrained(operationalEvents.stop()));
    const alerts = parts.startAlerts();
    running.push(() => beforeDrained(alerts.stop()));
    const retention = startRetention({
      connection,
      clock,
      logger,
      everyMs,
      removeAuditBefore: (tenantId, beforeMs) => removeEntriesBefore(db, tenantId, beforeMs),
    });
    parts.onRetentionAsked.run = retention.runNow;
    running.push(() => beforeDrained(retention.stop()));
    const url = await listen(parts.http, config, { shared: options.wholeProgram !== undefined });
    // Callers get half of the time, so that one who sends slowly leaves enough for the deliveries under way.
    running.push(() => closeWithin(parts, drainMs / 2, clock));
    return { url, nodeId: () => parts.engine.nodeId, metrics: parts.metrics, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** What the engine may take after the drain time to write down what has ended, and then the pools to close. */
const STOP_GRACE_MS = 7_000;

/** Answers what is under way; connections on which that takes too long are cut. */
async function closeWithin({ http, cutConnections }: Composition, ms: number, clock: Clock): Promise<void> {
  const cancel = clock.after(ms, cutConnections);
  await http.close();
  cancel();
}
