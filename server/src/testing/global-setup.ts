import { rm } from 'node:fs/promises';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../db/embedded.ts';
import { makeTemporaryDirectory } from './temporary-directory.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** A PostgreSQL whose role may create databases; see `createTestDatabase`. */
    postgresUrl: string;
  }
}

/**
 * Runs once, before all test files: starts one PostgreSQL for the whole run and hands its URL to them. The tests run
 * against another server when `TEST_DATABASE_URL` names one whose role may create databases.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const external = process.env.TEST_DATABASE_URL;
  if (external !== undefined && external !== '') {
    project.provide('postgresUrl', external);
    return async () => {};
  }
  const dataDirectory = makeTemporaryDirectory();
  const log: string[] = [];
  try {
    const server = await startEmbeddedPostgres({
      dataDirectory,
      onLog: (line) => log.push(line),
      settings: UNSAFE_FAST,
    });
    project.provide('postgresUrl', server.connectionString);
    void server.whenDead.then((death) => console.error(`The tests' PostgreSQL ended: ${death.reason}`));
    return async () => {
      await server.stop();
      await rm(dataDirectory, { recursive: true });
    };
  } catch (error) {
    console.error(log.join('\n'));
    await rm(dataDirectory, { recursive: true });
    throw error;
  }
}

/** Nothing here outlives the run, so nothing has to be on disk. Several test files at once need many connections. */
const UNSAFE_FAST = { fsync: 'off', full_page_writes: 'off', synchronous_commit: 'off', max_connections: '200' };
