import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StartupError } from '../kernel/startup-error.ts';
import { findPostgresBinaries, linkLibraries } from './embedded-binaries.ts';

let root: string;

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'posthorn-binaries-'));
});

afterEach(() => rmSync(root, { recursive: true }));

test('the programs of this platform are found', async () => {
  const binaries = await findPostgresBinaries();
  expect(path.basename(binaries.postgres)).toBe('postgres');
  expect(path.basename(binaries.initdb)).toBe('initdb');
});

test('a platform without a package is named, with the way out', async () => {
  const error = await findPostgresBinaries('linux', 'riscv64').catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(StartupError);
  expect((error as Error).message).toMatch(
    /^The embedded PostgreSQL for linux-riscv64 is not installed .*DATABASE_URL/,
  );
});

test('library links that the install script did not make are made, and those that exist stay', () => {
  mkdirSync(path.join(root, 'native', 'lib'), { recursive: true });
  writeFileSync(path.join(root, 'native/lib/libx.so.1.2'), 'library');
  writeFileSync(path.join(root, 'native/lib/liby.so.1'), 'a file of its own');
  const links = [
    { source: 'native/lib/libx.so.1.2', target: 'native/lib/libx.so.1' },
    { source: 'native/lib/liby.so.1.2', target: 'native/lib/liby.so.1' },
  ];
  writeFileSync(path.join(root, 'native/pg-symlinks.json'), JSON.stringify(links));
  linkLibraries(root);
  linkLibraries(root);
  expect(readlinkSync(path.join(root, 'native/lib/libx.so.1'))).toBe('libx.so.1.2');
  expect(readFileSync(path.join(root, 'native/lib/liby.so.1'), 'utf8')).toBe('a file of its own');
});

test('a link that cannot be made is named', () => {
  mkdirSync(path.join(root, 'native'));
  const links = [{ source: 'native/lib/libx.so.1.2', target: 'native/lib/libx.so.1' }];
  writeFileSync(path.join(root, 'native/pg-symlinks.json'), JSON.stringify(links));
  expect(() => linkLibraries(root)).toThrow(StartupError);
});
