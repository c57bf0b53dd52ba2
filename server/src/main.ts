import cluster from 'node:cluster';
import { runCli } from './cli/program.ts';
import { processTerminal } from './cli/terminal.ts';

if (cluster.isPrimary) {
  process.exitCode = await runCli(process.argv.slice(2), processTerminal());
} else {
  const { runWorker } = await import('./processes/worker.ts');
  runWorker();
}
