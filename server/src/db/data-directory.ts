import { randomBytes } from 'node:crypto';
import { chmod, mkdir, open, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { StartupError } from '../kernel/startup-error.ts';

/** The one directory in which a Posthorn keeps everything; no other process uses it while it is open. */
export interface DataDirectory {
  /** Absolute, without symbolic links. */
  path: string;
  /**
   * Returns the text of a file that only its owner can read, without the white space at its ends. When there is no such
   * file, it is made with what `create` returns, and is on disk when this resolves.
   *
   * @throws StartupError when the file is empty or cannot be read or written.
   */
  readOrCreateSecret(name: string, create: () => string): Promise<string>;
  /** Lets the next Posthorn in. A second call does nothing. */
  close(): Promise<void>;
}

/** Another process has the directory. */
export class DataDirectoryInUse extends StartupError {}

/**
 * Creates the directory if it is missing, checks that it can be written, and takes it for this process until `close()`
 * or until the process ends, however it ends.
 *
 * @throws StartupError with one line that names the path and the reason.
 */
export async function openDataDirectory(directory: string): Promise<DataDirectory> {
  const where = path.resolve(directory);
  const found = await attempt(`The data directory ${where} cannot be used`, () => makeWritable(where));
  const release = await lock(found);
  let closed = false;
  return {
    path: found,
    readOrCreateSecret: (name, create) => {
      const file = path.join(found, name);
      return attempt(`The secret file ${file} cannot be used`, () => readOrCreate(file, create));
    },
    close: async () => {
      if (closed) return;
      closed = true;
      await release();
    },
  };
}

/**
 * For root, other users may pass the directory but not list it: PostgreSQL then runs as another user and has its own
 * folder inside. All other files in it are closed to them.
 */
const MODE = process.geteuid?.() === 0 ? 0o711 : 0o700;

async function makeWritable(where: string): Promise<string> {
  // Not through the mode of mkdir, from which the umask is taken away. A directory that exists keeps its mode.
  if (await makeDirectory(where)) await chmod(where, MODE);
  const found = await realpath(where);
  if (!(await stat(found)).isDirectory()) throw new Error(REASONS.ENOTDIR);
  const probe = path.join(found, `.probe-${randomBytes(6).toString('hex')}`);
  try {
    // As large as a block, so that a full disk shows.
    await writeFile(probe, Buffer.alloc(4096), { flag: 'wx', flush: true });
  } finally {
    await rm(probe, { force: true });
  }
  return found;
}

/**
 * Says whether it was made just now. Not `mkdir` with `recursive`, which never returns where the system answers
 * "no such directory" although the parent exists, as under /proc.
 */
async function makeDirectory(where: string, hasParent = false): Promise<boolean> {
  try {
    await mkdir(where);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    if (code !== 'ENOENT' || hasParent) throw error;
  }
  await makeDirectory(path.dirname(where));
  return makeDirectory(where, true);
}

/**
 * The lock is one that the kernel holds for the process (`fcntl`), so it is gone when the process is, whatever killed
 * it, and a process id that was given again means nothing. Node offers such locks through SQLite alone: an exclusive
 * transaction, never written to, on a file of its own. The process id stands in a second file, for the message only.
 */
async function lock(directory: string): Promise<() => Promise<void>> {
  const lockFile = path.join(directory, 'posthorn.lock');
  const pidFile = path.join(directory, 'posthorn.pid');
  await attempt(`The data directory cannot be locked with ${lockFile}`, () => makeLockFile(lockFile));
  const held = new DatabaseSync(lockFile, { open: false, timeout: 0 });
  try {
    held.open();
    held.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    await writeFile(pidFile, `${process.pid}\n`, { mode: 0o600 });
  } catch (cause) {
    if (held.isOpen) held.close();
    if ((cause as { errcode?: number }).errcode !== SQLITE_BUSY) {
      throw new StartupError(`The data directory cannot be locked with ${lockFile}: ${reasonOf(cause)}.`, { cause });
    }
    const pid = await readFile(pidFile, 'utf8').catch(() => '');
    throw new DataDirectoryInUse(
      `The data directory ${directory} is in use by ${pid === '' ? 'another process' : `process ${pid.trim()}`}.`,
    );
  }
  HELD.add(held);
  return async () => {
    await rm(pidFile, { force: true });
    held.close();
    HELD.delete(held);
  };
}

/**
 * Keeps the garbage collector from closing, and so releasing, a lock whose `DataDirectory` nobody refers to any more.
 */
const HELD = new Set<DatabaseSync>();

/**
 * Closed to other users, who could otherwise hold the lock themselves. A file that exists is not opened: closing it
 * would release every lock that this process has on it.
 */
async function makeLockFile(lockFile: string): Promise<void> {
  try {
    await writeFile(lockFile, '', { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** https://www.sqlite.org/rescode.html#busy */
const SQLITE_BUSY = 5;

async function readOrCreate(file: string, create: () => string): Promise<string> {
  const found = await readIfThere(file);
  if (found !== undefined) {
    if (found === '') throw new Error('it is empty: restore it, or remove it to get a new one');
    return found;
  }
  const secret = create();
  await writeSecretFile(file, secret);
  return secret;
}

/** Makes or replaces a file that only its owner can read, in one step. It is on disk when this resolves. */
export async function writeSecretFile(file: string, secret: string): Promise<void> {
  const unfinished = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    await writeFile(unfinished, `${secret}\n`, { flag: 'wx', mode: 0o600, flush: true });
    await rename(unfinished, file);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
  await syncDirectory(path.dirname(file));
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** A rename is on disk only when its directory is. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function attempt<T>(what: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (cause) {
    throw new StartupError(`${what}: ${reasonOf(cause)}.`, { cause });
  }
}

const REASONS = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space is left on the device',
  EDQUOT: 'the disk quota is used up',
  ENOTDIR: 'a file is in the way',
  ENOENT: 'nothing can be created there',
  ENAMETOOLONG: 'the path is too long',
} as const;

function reasonOf(cause: unknown): string {
  const { code, message } = cause as NodeJS.ErrnoException;
  return code !== undefined && Object.hasOwn(REASONS, code) ? REASONS[code as keyof typeof REASONS] : message;
}
