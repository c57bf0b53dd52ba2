import { Command } from 'commander';
import { readConfig } from '../config.ts';
import { createLogger } from '../kernel/logger.ts';
import { programVersion } from '../kernel/version.ts';
import { processesOption, runServer } from './run-server.ts';
import type { Terminal } from './terminal.ts';

/** `posthorn serve`: for production. Standard output carries the log, one JSON object a line, and nothing else. */
export function serveCommand(terminal: Terminal): Command {
  return new Command('serve')
    .description('run Posthorn for production: strict egress, JSON logs, an encryption key of your own')
    .addHelpText(
      'after',
      `
POSTHORN_ENCRYPTION_KEY is needed; keep it as safe as the database. The operator key is never printed:
"posthorn key operator" shows it, or set POSTHORN_OPERATOR_KEY. SIGTERM finishes what is under way and stops.

Example:
  $ POSTHORN_ENCRYPTION_KEY=$(openssl rand -hex 32) DATABASE_URL=postgresql://posthorn@db/posthorn npx posthorn serve`,
    )
    .addOption(processesOption())
    .action(async (options: { processes?: number }) => {
      const config = { ...readConfig('serve', terminal.env), ...options };
      const logger = createLogger(config.logLevel);
      await runServer(terminal, {
        config,
        logger,
        onReady: (running) =>
          logger.info(
            { url: running.url, database: running.databaseDescription, version: programVersion() },
            'Posthorn is ready',
          ),
        onStopping: () => logger.info('stopping: requests under way are finished first'),
      });
      logger.info('stopped');
    });
}
