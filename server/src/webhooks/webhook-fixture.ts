import { type AuditLog, createAuditLog } from '../audit/log.ts';
import { createEventTypeDirectory } from '../catalog/directory.ts';
import { installPreset } from '../catalog/install-preset.ts';
import { findPreset } from '../catalog/presets/presets.ts';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import type { Caller, Scope } from '../http/caller.ts';
import type { Role } from '../http/permissions.ts';
import { createHttpServer, type HttpServer } from '../http/server.ts';
import { type Clock, systemClock } from '../kernel/clock.ts';
import { unauthorized } from '../kernel/errors.ts';
import { createIdSource, type IdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { createSandbox } from '../shaping/sandbox/sandbox.ts';
import { createTenantDirectory } from '../tenants/directory.ts';
import { createMaskerOf } from '../tenants/masker-of.ts';
import { createTestDatabase } from '../testing/database.ts';
import { testSecretBox } from '../testing/secret-box.ts';
import { createWebhookDirectory, type WebhookDirectory } from './directory.ts';
import { createEgressGuard, type Resolve } from './egress/guard.ts';
import { registerWebhookRoutes } from './routes.ts';

/** The routes of webhooks on a database of their own, and everything that they stand on. */
export interface WebhookFixture {
  app: HttpServer;
  handle: DatabaseHandle;
  connection: { connectionString: string };
  clock: MovableClock;
  newId: IdSource;
  audit: AuditLog;
  box: SecretBox;
  directory: WebhookDirectory;
  /**
   * Makes a tenant with one environment; the same tenant again for another environment. A preset other than `standard`
   * is installed with its event types. `allowUnknown` (true): whether patterns may match no event type.
   */
  addEnvironment(options?: { tenantId?: string; preset?: string; allowUnknown?: boolean }): Promise<Scope>;
  /** Sends a request as a caller of that environment (developer). */
  call(
    scope: Scope,
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    body?: unknown,
    role?: Role,
  ): Promise<Answer>;
  close(): Promise<void>;
}

export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape.
  body: any;
}

export interface MovableClock extends Clock {
  advance(ms: number): void;
}

/** Wall time that only moves when it is told to. */
function movableClock(startMs = Date.UTC(2030, 0, 15, 12)): MovableClock {
  let nowMs = startMs;
  return {
    ...systemClock,
    now: () => nowMs,
    advance: (ms) => {
      nowMs += ms;
    },
  };
}

/** @param resolve the addresses of names; without it no name has one, as without a network. */
export async function openWebhookFixture(resolve: Resolve = nothingFound): Promise<WebhookFixture> {
  const database = await createTestDatabase();
  const logger = createLogger('silent');
  const handle = openDatabase({ connection: database.connection, logger });
  const clock = movableClock();
  const newId = createIdSource(clock);
  const audit = createAuditLog({ newId });
  const box = testSecretBox();
  const { db } = handle;
  const directory = createWebhookDirectory({ db, clock, box, logger, defaultUserAgent: 'Posthorn/0.0.0' });
  const guard = createEgressGuard({ allow: ['127.0.0.0/8'], requireHttps: true, resolve });
  const callers = new Map<string, Caller>();
  const app = createHttpServer({
    logger,
    authenticate: (request) => {
      const caller = callers.get(String(request.headers['x-caller']));
      if (caller === undefined) throw unauthorized();
      return caller;
    },
  });
  const eventTypes = createEventTypeDirectory({ db, clock });
  const tenants = createTenantDirectory({ db, clock });
  const sandbox = createSandbox();
  registerWebhookRoutes(app, {
    db,
    clock,
    newId,
    audit,
    box,
    directory,
    guard,
    eventTypes,
    tenants,
    maskerOf: createMaskerOf(tenants),
    sandbox,
  });

  return {
    app,
    handle,
    connection: database.connection,
    clock,
    newId,
    audit,
    box,
    directory,
    async addEnvironment({ tenantId = newId(), preset = 'standard', allowUnknown = true } = {}) {
      const scope = { tenantId, environmentId: newId() };
      const now = new Date(clock.now());
      const settings = JSON.stringify({ allow_unknown_event_types: allowUnknown });
      await db
        .insertInto('tenants')
        .values({ id: tenantId, slug: tenantId, name: 'T', settings, created_at: now, updated_at: now })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      await db
        .insertInto('environments')
        .values({
          tenant_id: tenantId,
          id: scope.environmentId,
          name: scope.environmentId,
          preset: 'standard',
          created_at: now,
        })
        .execute();
      const installed = findPreset(preset);
      if (installed !== undefined) await db.transaction().execute((trx) => installPreset(trx, scope, installed, now));
      return scope;
    },
    async call(scope, method, path, body, role = 'developer') {
      const name = `${scope.environmentId}/${role}`;
      callers.set(name, { actor: { kind: 'api_key', id: 'key_test' }, ...scope, environmentName: 'production', role });
      const response = await app.inject({
        method,
        url: `/api/v1/webhooks${path}`,
        headers: { 'x-caller': name, ...(body !== undefined && { 'content-type': 'application/json' }) },
        ...(body !== undefined && { payload: JSON.stringify(body) }),
      });
      return { status: response.statusCode, body: response.body === '' ? undefined : response.json() };
    },
    async close() {
      await app.close();
      await sandbox.stop();
      await handle.close();
      await database.drop();
    },
  };
}

/** NXDOMAIN: no test asks a real name server. */
const nothingFound: Resolve = (_hostname, _options, callback) =>
  callback(Object.assign(new Error(), { code: 'ENOTFOUND' }), []);
