import { Command, CommanderError } from 'commander';
import { AppError } from '../kernel/errors.ts';
import { StartupError } from '../kernel/startup-error.ts';
import { programVersion } from '../kernel/version.ts';
import { auditCommand } from './audit.ts';
import { CommandError } from './command-error.ts';
import { demoCommand } from './demo.ts';
import { devCommand } from './dev.ts';
import { doctorCommand } from './doctor.ts';
import { encryptionCommand } from './encryption.ts';
import { keyCommand } from './key.ts';
import { migrateCommand } from './migrate.ts';
import { publishCommand } from './publish.ts';
import { receiveCommand } from './receive.ts';
import { serveCommand } from './serve.ts';
import { simulateCommand } from './simulate.ts';
import type { Terminal } from './terminal.ts';
import { triggerCommand } from './trigger.ts';

/**
 * Runs the command that `args` (without the program's own name) names, and returns the exit code: 0, or 1 after one line
 * on standard error that says what is wrong.
 */
export async function runCli(args: readonly string[], terminal: Terminal): Promise<number> {
  try {
    await createProgram(terminal).parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    complainAbout(error, terminal);
    return 1;
  }
}

function createProgram(terminal: Terminal): Command {
  const program = new Command('posthorn');
  program
    .description(
      'Self-hosted webhook delivery: publish an event once, Posthorn brings it to every webhook that wants it.',
    )
    .version(programVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .configureOutput({ writeOut: terminal.write, writeErr: (text) => terminal.complain(text.replace(/\n$/, '')) })
    .exitOverride()
    .addHelpText('after', '\nStart with:  npx posthorn dev\nThen, in a second terminal:  npx posthorn receive');
  const commands = [
    devCommand(terminal),
    serveCommand(terminal),
    migrateCommand(terminal),
    keyCommand(terminal),
    encryptionCommand(terminal),
    publishCommand(terminal),
    triggerCommand(terminal),
    simulateCommand(terminal),
    receiveCommand(terminal),
    auditCommand(terminal),
    doctorCommand(terminal),
    demoCommand(terminal),
  ];
  for (const command of commands) {
    inheritSettings(command, program);
    program.addCommand(command);
  }
  return program;
}

/** Commands that are added rather than made by their parent do not take over its settings. */
function inheritSettings(command: Command, parent: Command): void {
  command.copyInheritedSettings(parent);
  for (const child of command.commands) inheritSettings(child, command);
}

function complainAbout(error: unknown, terminal: Terminal): void {
  if (error instanceof StartupError || error instanceof CommandError || error instanceof AppError) {
    terminal.complain(`posthorn: ${error.message}`);
    return;
  }
  const fault = error instanceof Error ? error : new Error(String(error));
  const level = terminal.env.POSTHORN_LOG_LEVEL;
  terminal.complain(
    level === 'debug' || level === 'trace'
      ? `posthorn: ${fault.stack}`
      : `posthorn: ${fault.message} (unexpected; POSTHORN_LOG_LEVEL=debug shows where)`,
  );
}
