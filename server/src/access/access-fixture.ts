import { createAuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import { openDatabase } from '../db/pool.ts';
import { registerIdempotency } from '../http/idempotency.ts';
import type { Permission } from '../http/permissions.ts';
import { createHttpServer } from '../http/server.ts';
import { createIdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { ensureDefaultTenant } from '../tenants/default-tenant.ts';
import { createTenantDirectory } from '../tenants/directory.ts';
import { registerTenantRoutes } from '../tenants/routes.ts';
import { DEFAULT_SETTINGS } from '../tenants/types.ts';
import { createTestDatabase } from '../testing/database.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { testSecretBox } from '../testing/secret-box.ts';
import { createAuthenticator } from './authenticator.ts';
import type { FetchDocument } from './jwt/key-sets.ts';
import { registerJwtIssuerRoutes } from './jwt/routes.ts';
import { registerApiKeyRoutes } from './routes.ts';

const OPERATOR_KEY = 'operator-key-of-the-tests';
const PERMISSIONS: Permission[] = ['read', 'publish', 'develop', 'administer', 'operate'];

export interface Call {
  /** The operator's unless given. */
  key?: string;
  tenant?: string;
  headers?: Record<string, string>;
  body?: unknown;
}

/** Tenants, keys and issuers over HTTP, with a clock that the test moves and a route for each permission. */
export type Access = Awaited<ReturnType<typeof startAccess>>;

/** `documents`: what there is to fetch, by URL. */
export async function startAccess(documents: Map<string, () => Buffer | Promise<Buffer>> = new Map()) {
  const database = await createTestDatabase();
  const clock = new ManualClock();
  const logLines: string[] = [];
  const logger = createLogger('trace', { write: (line) => void logLines.push(line) });
  const { db, pool, close } = openDatabase({ connection: database.connection, logger });
  const queries: string[] = [];
  pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    client.query = ((...args: unknown[]) => {
      queries.push(String(args[0]));
      return query(...args);
    }) as typeof client.query;
  });
  const box = testSecretBox();
  const newId = createIdSource(clock);
  const tenants = createTenantDirectory({ db, clock });
  const fetched: string[] = [];
  const fetchDocument: FetchDocument = async (url) => {
    fetched.push(url.href);
    const document = documents.get(url.href);
    if (document === undefined) throw new Error('There is no such document.');
    return document();
  };
  const common = { db, box, clock, logger, tenants, fetchDocument };
  const authenticator = createAuthenticator({ ...common, operatorKey: OPERATOR_KEY });
  const app = createHttpServer({ logger, authenticate: authenticator.authenticate });
  const onChange = ({ topic, tenantId }: Change) => {
    if (topic === 'tenants') tenants.invalidate(tenantId);
    if (topic === 'jwt_issuers') authenticator.invalidateIssuers();
    else authenticator.invalidate(tenantId);
  };
  const deps = { db, clock, newId, audit: createAuditLog({ newId }), box, onChange };
  registerIdempotency(app, { db, box, clock });
  registerTenantRoutes(app, deps);
  registerApiKeyRoutes(app, deps);
  const judgeUrl = async (url: string) => (url.startsWith('https://') ? undefined : 'It must be an https:// URL.');
  registerJwtIssuerRoutes(app, { ...deps, judgeUrl });
  for (const permission of PERMISSIONS) {
    app.get(`/needs/${permission}`, { config: { permission } }, async (request) => request.caller);
  }
  await ensureDefaultTenant({ db, clock, newId, settings: DEFAULT_SETTINGS });

  async function call(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', url: string, options: Call = {}) {
    const headers: Record<string, string> = { authorization: `Bearer ${options.key ?? OPERATOR_KEY}` };
    if (options.tenant !== undefined) headers['x-tenant-id'] = options.tenant;
    if (options.body !== undefined) headers['content-type'] = 'application/json';
    const payload = options.body === undefined ? {} : { payload: JSON.stringify(options.body) };
    const response = await app.inject({ method, url, headers: { ...headers, ...options.headers }, ...payload });
    // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely here
    return { status: response.statusCode, body: (response.body === '' ? undefined : response.json()) as any };
  }

  let tenantCount = 0;
  return {
    database,
    db,
    clock,
    box,
    newId,
    tenants,
    queries,
    logLines,
    fetched,
    authenticator,
    call,
    /** What of the permissions a key or token has; `401` when it is not let in at all. */
    async permissions(key: string): Promise<string[]> {
      const having: string[] = [];
      for (const permission of PERMISSIONS) {
        const { status } = await call('GET', `/needs/${permission}`, { key });
        if (status === 401) return ['401'];
        if (status === 200) having.push(permission);
      }
      return having;
    },
    async makeTenant() {
      tenantCount += 1;
      const slug = `tenant-${tenantCount}`;
      const { body } = await call('POST', '/api/v1/tenants', { body: { name: slug, slug } });
      return { id: body.id as string, slug };
    },
    async stop() {
      await app.close();
      await authenticator.stop();
      await close();
      await database.drop();
    },
  };
}
