import path from 'node:path';
import { Command } from 'commander';
import type { RunningPosthorn } from '../app.ts';
import { type Config, readConfig } from '../config.ts';
import { programVersion } from '../kernel/version.ts';
import { operatorKeyFile } from './connection.ts';
import { processesOption, runServer } from './run-server.ts';
import type { Terminal } from './terminal.ts';

/** `posthorn dev`: everything in one folder, nothing to set up. */
export function devCommand(terminal: Terminal): Command {
  return new Command('dev')
    .description('run Posthorn for development, with its own PostgreSQL in ./.posthorn')
    .addHelpText(
      'after',
      `
Nothing has to be set up: the database, the keys and a tenant are made at the first start.
Deliveries to this machine (127.0.0.1, localhost) are allowed. Ctrl-C stops it; what it keeps is in ./.posthorn.

Examples:
  $ npx posthorn dev
  $ POSTHORN_PORT=8000 npx posthorn dev`,
    )
    .addOption(processesOption())
    .action(async (options: { processes?: number }) => {
      const config = { ...readConfig('dev', terminal.env), ...options };
      await runServer(terminal, {
        config,
        onReady: (running) => terminal.print(devBanner(config, running, process.cwd())),
        onStopping: () =>
          terminal.print('\nStopping: requests under way are finished first. Ctrl-C again ends at once.'),
      });
      terminal.print('Stopped.');
    });
}

/**
 * What the person who started it needs next. The operator key is shown at the first start only; the commands of later
 * starts read it from where it is kept.
 */
export function devBanner(config: Config, running: RunningPosthorn, currentDirectory: string): string {
  const keyFile = nearPath(operatorKeyFile(config), currentDirectory);
  const { described, inCommand } = describeKey(config, running, keyFile);
  const body = '{"event_type":"example.greeting","data":{"text":"Hello from Posthorn"}}';
  return `
Posthorn ${programVersion()} is running. Ctrl-C stops it.

  API           ${running.url}/api/v1
  Reference     ${running.url}/docs
  Metrics       ${running.url}/metrics
  Database      ${running.databaseDescription}
  Operator key  ${described}

See events arrive, in a second terminal:

  npx posthorn receive

Publish one, in a third:

  curl -sS ${running.url}/api/v1/events \\
    -H ${inCommand} \\
    -H 'Content-Type: application/json' \\
    -d '${body}'
`;
}

function describeKey(
  config: Config,
  running: RunningPosthorn,
  keyFile: string,
): { described: string; inCommand: string } {
  if (config.operatorKey !== undefined) {
    return {
      described: 'as set in POSTHORN_OPERATOR_KEY',
      inCommand: '"Authorization: Bearer $POSTHORN_OPERATOR_KEY"',
    };
  }
  if (running.firstStart) {
    return {
      described: `${running.operatorKey}\n                (kept in ${keyFile}; not shown again)`,
      inCommand: `'Authorization: Bearer ${running.operatorKey}'`,
    };
  }
  return { described: `kept in ${keyFile}`, inCommand: `"Authorization: Bearer $(cat ${shellQuote(keyFile)})"` };
}

/** Relative where that is shorter to read. */
function nearPath(file: string, currentDirectory: string): string {
  const relative = path.relative(currentDirectory, file);
  return relative.startsWith('..') ? file : relative;
}

function shellQuote(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
