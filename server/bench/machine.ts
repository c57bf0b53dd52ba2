import { execFileSync } from 'node:child_process';
import { cpus, platform, release, totalmem } from 'node:os';
import { findPostgresBinaries } from '../src/db/embedded-binaries.ts';

/** Lines that say on what the figures were measured. */
export async function describeMachine(): Promise<string[]> {
  const processors = cpus();
  const { postgres } = await findPostgresBinaries();
  const postgresVersion = execFileSync(postgres, ['--version'], { encoding: 'utf8' }).trim();
  return [
    `Processor: ${processors[0]?.model.trim() ?? 'unknown'}, ${processors.length} cores`,
    `Memory: ${Math.round(totalmem() / 1024 ** 3)} GB`,
    `System: ${platform()} ${release()}`,
    `Node ${process.versions.node}, ${postgresVersion.replace('postgres (PostgreSQL)', 'PostgreSQL')}`,
  ];
}
