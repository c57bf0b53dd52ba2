import { createAuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import type { Caller } from '../http/caller.ts';
import { createHttpServer, type HttpServer } from '../http/server.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { insertEnvironment, insertTenant } from '../tenants/queries.ts';
import { DEFAULT_SETTINGS } from '../tenants/types.ts';
import { createTestDatabase } from '../testing/database.ts';
import { createEventTypeDirectory, type EventTypeDirectory } from './directory.ts';
import { registerEventTypeRoutes } from './routes.ts';

/** The catalog's routes on a database of their own, for tests. */
export interface CatalogFixture {
  app: HttpServer;
  handle: DatabaseHandle;
  directory: EventTypeDirectory;
  connection: { connectionString: string };
  /** Everything that was told to `onChange`, in order. */
  changes: Change[];
  /** Moves the clock that stamps rows. */
  setTime(ms: number): void;
  /** A developer of a new environment; of a new tenant when none is given. */
  makeCaller(tenantId?: string): Promise<Caller>;
  /** Sends a request as `caller`; a text is sent as the body as it is. */
  call(
    caller: Caller,
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    body?: unknown,
  ): Promise<Answer>;
  stop(): Promise<void>;
}

export interface Answer {
  status: number;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely by tests
  body: any;
}

export async function startCatalogFixture(): Promise<CatalogFixture> {
  const database = await createTestDatabase();
  const logger = createLogger('silent');
  const handle = openDatabase({ connection: database.connection, logger });
  const { db } = handle;
  let nowMs = Date.parse('2026-03-01T10:20:30.456Z');
  const clock = { ...systemClock, now: () => nowMs };
  const newId = createIdSource();
  const changes: Change[] = [];
  const directory = createEventTypeDirectory({ db, clock });
  const callers = new Map<string, Caller>();
  const app = createHttpServer({
    logger,
    authenticate: (request) => callers.get(request.headers['x-caller'] as string) as Caller,
  });
  registerEventTypeRoutes(app, {
    db,
    clock,
    audit: createAuditLog({ newId }),
    onChange: (change) => {
      changes.push(change);
      if (change.topic === 'event_types') directory.invalidate(change.tenantId, change.environmentId);
    },
  });
  let made = 0;
  return {
    app,
    handle,
    directory,
    connection: database.connection,
    changes,
    setTime: (ms) => {
      nowMs = ms;
    },
    async makeCaller(tenantId) {
      made += 1;
      const names = { slug: `tenant-${made}`, name: `Tenant ${made}`, settings: DEFAULT_SETTINGS };
      const now = new Date(nowMs);
      return db.transaction().execute(async (trx) => {
        const owner = tenantId ?? (await insertTenant(trx, names, newId, now))?.id;
        if (owner === undefined) throw new Error('The slug is taken.');
        const name = `environment-${made}`;
        const row = await insertEnvironment(trx, { tenantId: owner, id: newId(), name, now });
        if (row === undefined) throw new Error('The name is taken.');
        return {
          actor: { kind: 'api_key', id: 'key_test' },
          tenantId: owner,
          environmentId: row.id,
          environmentName: name,
          role: 'developer',
        };
      });
    },
    async call(caller, method, path, body) {
      const as = `${caller.environmentId}/${caller.role}`;
      callers.set(as, caller);
      const response = await app.inject({
        method,
        url: `/api/v1${path}`,
        headers: { 'x-caller': as, ...(body !== undefined && { 'content-type': 'application/json' }) },
        ...(body !== undefined && { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
      });
      const text = response.body;
      return { status: response.statusCode, text, body: text === '' ? undefined : JSON.parse(text) };
    },
    async stop() {
      await app.close();
      await handle.close();
      await database.drop();
    },
  };
}
