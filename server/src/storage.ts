import type pg from 'pg';
import { Client } from 'pg';
import type { Config } from './config.ts';
import { type DataDirectory, openDataDirectory } from './db/data-directory.ts';
import { type DatabaseOutage, keepEmbeddedPostgres } from './db/embedded-keeper.ts';
import { errorCode } from './db/pool.ts';
import type { Logger } from './kernel/logger.ts';
import { StartupError } from './kernel/startup-error.ts';

/** Where everything is kept: the data folder, if one is needed, and a PostgreSQL that answers. */
export interface Storage {
  connection: pg.ClientConfig;
  /** For the person who started it. */
  description: string;
  /** undefined: all that would be kept there was given in the environment. */
  directory: DataDirectory | undefined;
  /** No other Posthorn can be running on the database. */
  exclusive: boolean;
  /** Why the embedded PostgreSQL is away; undefined while it runs, and always for a database that is not ours. */
  outage(): DatabaseOutage | undefined;
  close(): Promise<void>;
}

export interface StorageOptions {
  logger: Logger;
  /** Connections that the embedded PostgreSQL must take, beside a few for visitors; undefined: as many as it usually does. */
  connectionsMax?: number;
  /** The embedded PostgreSQL has gone away, or is back (undefined). */
  onOutage?: (outage: DatabaseOutage | undefined) => void;
}

/** @throws StartupError with one line when the folder or the database cannot be used. */
export async function openStorage(config: Config, options: StorageOptions): Promise<Storage> {
  const external = config.databaseUrl;
  const keysGiven = config.operatorKey !== undefined && config.encryptionKey !== undefined;
  const directory = external !== undefined && keysGiven ? undefined : await openDataDirectory(config.dataDir);
  try {
    if (external === undefined && directory !== undefined) return await openEmbedded(directory, options);
    const connection = { connectionString: external ?? '' };
    const description = await describeServer(connection);
    return {
      connection,
      description,
      directory,
      exclusive: false,
      outage: () => undefined,
      close: async () => directory?.close(),
    };
  } catch (error) {
    await directory?.close();
    throw error;
  }
}

async function openEmbedded(directory: DataDirectory, options: StorageOptions): Promise<Storage> {
  const { logger, connectionsMax, onOutage } = options;
  const server = await keepEmbeddedPostgres({
    dataDirectory: directory.path,
    logger,
    ...(connectionsMax !== undefined && { settings: { max_connections: String(connectionsMax) } }),
    ...(onOutage !== undefined && { onOutage }),
  });
  return {
    connection: server.connection,
    description: `embedded PostgreSQL in ${directory.path}`,
    directory,
    exclusive: true,
    outage: () => server.outage(),
    async close() {
      await server.stop();
      await directory.close();
    },
  };
}

/** Name, host and version of an external database, without the credentials. */
async function describeServer(connection: pg.ClientConfig): Promise<string> {
  let client: Client | undefined;
  try {
    client = new Client({ ...connection, connectionTimeoutMillis: 5_000 });
    client.on('error', () => {
      // The query under way fails with the same reason.
    });
    await client.connect();
    const result = await client.query<{ name: string; version: string }>(
      "SELECT current_database() AS name, current_setting('server_version') AS version",
    );
    const row = result.rows[0];
    return `PostgreSQL ${row?.version} at ${client.host}:${client.port}/${row?.name}`;
  } catch (error) {
    throw new StartupError(`DATABASE_URL cannot be used: ${reasonOf(error)}.`, { cause: error });
  } finally {
    await client?.end().catch(() => {
      // It may never have been connected.
    });
  }
}

const REASONS: Record<string, string> = {
  ECONNREFUSED: 'nothing listens at its host and port',
  ENOTFOUND: 'its host name is not known',
  EAI_AGAIN: 'its host name cannot be resolved now',
  ENOENT: 'its socket does not exist',
  ETIMEDOUT: 'its host does not answer',
  ERR_INVALID_URL: 'it is not a URL',
  '28P01': 'the user or the password is wrong',
  '28000': 'the server does not let this user in',
  '3D000': 'there is no database of that name',
  '53300': 'the server has no connections left',
};

/** Our own words: a driver's text may repeat what the URL holds. */
function reasonOf(error: unknown): string {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  const code = errorCode(first);
  const timedOut = first instanceof Error && /timeout/i.test(first.message);
  return REASONS[code] ?? (timedOut ? 'its host does not answer' : `the connection failed (${code})`);
}
