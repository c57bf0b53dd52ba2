import type { Config } from './config.ts';
import { type Clock, systemClock } from './kernel/clock.ts';
import { createLogger, type Logger } from './kernel/logger.ts';
import { readKeys } from './keys.ts';
import { startNode } from './node.ts';
import { prepareDatabase } from './prepare-database.ts';
import { openStorage } from './storage.ts';

export interface RunningPosthorn {
  /** Where it listens, e.g. `http://127.0.0.1:7678`. */
  url: string;
  operatorKey: string;
  /** The operator key was made by this start. */
  firstStart: boolean;
  databaseDescription: string;
  /** Finishes what is under way, gives back what waits, and closes everything. */
  stop(): Promise<void>;
}

/**
 * Starts the program in this process: storage, schema, node, in this order, and stops them in the opposite one.
 *
 * @throws StartupError with one line when something outside makes it impossible; whatever was started is stopped.
 */
export async function startPosthorn(
  config: Config,
  options: { logger?: Logger; clock?: Clock } = {},
): Promise<RunningPosthorn> {
  const logger = options.logger ?? createLogger(config.logLevel);
  const clock = options.clock ?? systemClock;
  const storage = await openStorage(config, { logger });
  try {
    const { operatorKey, operatorKeyIsNew, masterKeys } = await readKeys(config, storage);
    const { connection } = storage;
    await prepareDatabase({ connection, mode: config.mode, masterKeys, clock, logger });
    const node = await startNode({
      config,
      connection,
      operatorKey,
      masterKeys,
      soleNode: storage.exclusive,
      databaseOutage: storage.outage,
      logger,
      clock,
    });
    return {
      url: node.url,
      operatorKey,
      firstStart: operatorKeyIsNew,
      databaseDescription: storage.description,
      stop: async () => {
        await node.stop();
        await storage.close();
      },
    };
  } catch (error) {
    await storage.close();
    throw error;
  }
}
