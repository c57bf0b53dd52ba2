import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StartupError } from '../kernel/startup-error.ts';
import { makeTemporaryDirectory } from '../testing/temporary-directory.ts';
import { findPostgresBinaries } from './embedded-binaries.ts';
import { prepareCluster } from './embedded-cluster.ts';
import { chooseLauncher } from './embedded-launcher.ts';

let directory: string;

beforeEach(() => {
  directory = makeTemporaryDirectory();
});

afterEach(() => rmSync(directory, { recursive: true }));

const asRoot = process.geteuid?.() === 0;
const hasSetpriv = spawnSync('setpriv', ['--pdeathsig=INT', 'true']).status === 0;

test('the launcher knows the major version of the programs and starts them as an ordinary user', async () => {
  const { postgres } = await findPostgresBinaries();
  const launcher = await chooseLauncher({
    postgres,
    dataDirectory: directory,
    clusterDirectory: `${directory}/postgres`,
  });
  expect(launcher.majorVersion).toBe(18);
  const child = launcher.start('/bin/sh', ['-c', 'id -u; id -G; pwd']);
  const [output] = await Promise.all([child.stdout && text(child.stdout), once(child, 'close')]);
  const [uid, groups, cwd] = String(output).split('\n');
  expect(uid).not.toBe('0');
  expect(uid).toBe(String(launcher.owner?.uid ?? process.geteuid?.()));
  if (launcher.owner !== undefined) expect(groups).toBe(String(launcher.owner.gid));
  expect(cwd).toBe('/');
});

test('a data directory whose name is a piece of shell script is only a name', async () => {
  const { postgres } = await findPostgresBinaries();
  const dataDirectory = path.join(directory, '-"$(touch broken)"; touch broken #');
  mkdirSync(dataDirectory);
  const launcher = await chooseLauncher({
    postgres,
    dataDirectory,
    clusterDirectory: path.join(dataDirectory, 'postgres'),
  });
  expect(launcher.majorVersion).toBe(18);
  expect(readdirSync(dataDirectory)).toEqual([]);
  expect(readdirSync(directory)).toHaveLength(1);
});

test('a program that does not run is reported in one line', async () => {
  const postgres = path.join(directory, 'postgres');
  writeFileSync(postgres, '#!/bin/sh\necho first >&2\necho "library missing" >&2\nexit 127\n', { mode: 0o755 });
  const error = await chooseLauncher({
    postgres,
    dataDirectory: directory,
    clusterDirectory: `${directory}/cluster`,
  }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(StartupError);
  expect((error as Error).message).toMatch(/library missing.*DATABASE_URL/);
  expect((error as Error).message).not.toContain('\n');
});

test.runIf(asRoot && hasSetpriv)('programs and data under a folder that only root may pass work together', async () => {
  chmodSync(directory, 0o700);
  const installed = path.resolve(path.dirname((await findPostgresBinaries()).postgres), '..');
  cpSync(installed, path.join(directory, 'native'), { recursive: true, verbatimSymlinks: true });
  const binaries = {
    postgres: path.join(directory, 'native/bin/postgres'),
    initdb: path.join(directory, 'native/bin/initdb'),
  };
  const dataDirectory = path.join(directory, 'data');
  const clusterDirectory = path.join(dataDirectory, 'postgres');
  mkdirSync(dataDirectory, { mode: 0o700 });

  const launcher = await chooseLauncher({ postgres: binaries.postgres, dataDirectory, clusterDirectory });
  await prepareCluster({ dataDirectory, clusterDirectory, binaries, launcher, mayCreate: true });
  expect(existsSync(path.join(clusterDirectory, 'PG_VERSION'))).toBe(true);
  expect(statSync(clusterDirectory).uid).toBe(launcher.owner?.uid);
  const child = launcher.start(binaries.postgres, ['-C', 'data_checksums', '-D', clusterDirectory]);
  const [output] = await Promise.all([child.stdout && text(child.stdout), once(child, 'close')]);
  expect(output).toBe('on\n');
});

test.runIf(asRoot)('the owner of an existing cluster is the user who runs it', async () => {
  const { postgres } = await findPostgresBinaries();
  const clusterDirectory = path.join(directory, 'postgres');
  mkdirSync(clusterDirectory);
  execFileSync('chown', ['54321:54322', clusterDirectory]);
  const launcher = await chooseLauncher({ postgres, dataDirectory: directory, clusterDirectory });
  expect(launcher.owner).toEqual({ uid: 54_321, gid: 54_322 });
});
