import { Command } from 'commander';
import { type Config, readConfig } from '../config.ts';
import { StartupError } from '../kernel/startup-error.ts';
import { CommandError } from './command-error.ts';
import { resolveServerUrl } from './connection.ts';
import {
  checkClock,
  checkDatabase,
  checkDataDirectory,
  checkDisk,
  checkNode,
  checkServer,
  type Finding,
} from './doctor/checks.ts';
import { printable } from './safe-text.ts';
import type { Terminal } from './terminal.ts';

/** `posthorn doctor`: one line for each thing that Posthorn needs. */
export function doctorCommand(terminal: Terminal): Command {
  return new Command('doctor')
    .description('check this machine, the settings, the database and the server')
    .option('--url <url>', 'server that must be running (default: the local one, which need not be)')
    .addHelpText(
      'after',
      `
Changes nothing. Ends with 1 when a check failed; a line with "note" is no failure.

Examples:
  $ npx posthorn doctor
  $ npx posthorn doctor --url https://hooks.example.com`,
    )
    .action(async (options: { url?: string }) => {
      let failures = 0;
      const tell = (finding: Finding) => {
        if (finding.result === 'failed') failures += 1;
        terminal.print(`${finding.result.padEnd(6)}  ${finding.subject.padEnd(9)}  ${printable(finding.text)}`);
      };
      tell(checkNode(process.versions.node));
      const settings = checkSettings(terminal.env);
      tell(settings.finding);
      // Without settings there is no telling where the rest would be.
      if (settings.config !== undefined) await checkRest(settings.config, options.url, terminal, tell);
      if (failures > 0) throw new CommandError(failures === 1 ? 'One check failed.' : `${failures} checks failed.`);
    });
}

function checkSettings(env: NodeJS.ProcessEnv): { config?: Config; finding: Finding } {
  try {
    const config = readConfig('dev', env);
    const set = Object.keys(env).filter((name) => name.startsWith('POSTHORN_') || name === 'DATABASE_URL');
    const text = set.length === 0 ? 'all at their defaults' : `${set.join(', ')} set and readable`;
    return { config, finding: { result: 'ok', subject: 'settings', text } };
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    return { finding: { result: 'failed', subject: 'settings', text: error.message } };
  }
}

async function checkRest(
  config: Config,
  givenUrl: string | undefined,
  terminal: Terminal,
  tell: (finding: Finding) => void,
): Promise<void> {
  tell(await checkDataDirectory(config.dataDir));
  tell(await checkDisk(config.dataDir));
  const url = givenUrl === undefined && config.port === 0 ? undefined : resolveServerUrl(givenUrl, config);
  const server = await checkServer(url, givenUrl !== undefined);
  const database = await checkDatabase(config, server.answers);
  tell(database.finding);
  tell(server.finding);
  tell(checkClock(terminal.clock.now(), { database: database.timeMs, server: server.timeMs }));
}
