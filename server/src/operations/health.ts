import type pg from 'pg';
import { Type } from 'typebox';
import type { DatabaseOutage } from '../db/embedded-keeper.ts';
import { errorCode } from '../db/pool.ts';
import type { HttpServer } from '../http/server.ts';

const Health = Type.Object({ status: Type.String(), checks: Type.Optional(Type.Record(Type.String(), Type.String())) });

/**
 * `GET /health/live`: the process answers. `GET /health/ready`: it can accept and deliver events, that is, the database
 * answers and the engine holds its lease; 503 otherwise, with what is wrong. Of several processes the one that was asked
 * answers, and says how many are running.
 */
export function registerHealthRoutes(
  app: HttpServer,
  deps: {
    pool: pg.Pool;
    engineHealthy: () => boolean;
    databaseOutage: () => DatabaseOutage | undefined;
    processes: () => string | undefined;
  },
): void {
  const config = { permission: 'public' } as const;
  const tags = ['Operations'];

  app.get(
    '/health/live',
    { config, schema: { tags, summary: 'Is the process alive', response: { 200: Health } } },
    () => ({ status: 'ok' }),
  );

  app.get(
    '/health/ready',
    { config, schema: { tags, summary: 'Can it accept and deliver events', response: { 200: Health, 503: Health } } },
    async (_request, reply) => {
      const database = await askDatabase(deps.pool, deps.databaseOutage);
      const processes = deps.processes();
      const engine = deps.engineHealthy() ? 'ok' : 'not delivering';
      const ready = database === 'ok' && engine === 'ok';
      const checks = { database, engine, ...(processes !== undefined && { processes }) };
      return reply.code(ready ? 200 : 503).send({ status: ready ? 'ok' : 'unavailable', checks });
    },
  );
}

async function askDatabase(pool: pg.Pool, outage: () => DatabaseOutage | undefined): Promise<string> {
  try {
    await pool.query('SELECT 1');
    return outage() === 'storage_full' ? FULL : 'ok';
  } catch (error) {
    switch (outage()) {
      case 'storage_full':
        return FULL;
      case 'restarting':
        return 'it has ended and is started again';
      default:
        return `out of reach (${errorCode(error)})`;
    }
  }
}

const FULL = 'its disk is full';
