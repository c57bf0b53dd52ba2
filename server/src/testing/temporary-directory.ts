import { chmodSync, existsSync, mkdtempSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/**
 * Makes an empty directory for PostgreSQL's files; the caller removes it. It is in memory where there is room: a copy
 * of a cluster, 50 MB in 1,300 files, takes 0.1 s there and 1 s or more on a busy disk. Other users may pass it but
 * not list it, because PostgreSQL runs as another user when the tests run as root.
 */
export function makeTemporaryDirectory(): string {
  const parent = hasRoom(MEMORY) ? MEMORY : tmpdir();
  const directory = mkdtempSync(path.join(parent, 'posthorn-test-'));
  chmodSync(directory, 0o711);
  return directory;
}

const MEMORY = '/dev/shm';

/** Containers often have 64 MB there. */
function hasRoom(directory: string): boolean {
  if (!existsSync(directory)) return false;
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize >= 2 ** 30;
}
