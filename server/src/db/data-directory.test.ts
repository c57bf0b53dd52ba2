import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { StartupError } from '../kernel/startup-error.ts';
import { openDataDirectory } from './data-directory.ts';

let parent: string;
let children: ChildProcess[];

beforeEach(() => {
  parent = mkdtempSync(path.join(tmpdir(), 'posthorn-data-'));
  children = [];
});

afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  chmodSync(parent, 0o700);
  rmSync(parent, { recursive: true, force: true });
});

const MODULE = new URL('./data-directory.ts', import.meta.url).href;
const asRoot = process.geteuid?.() === 0;

/** Another Posthorn: opens the directory, says how that went in one line, and lives until it is killed. */
async function openElsewhere(directory: string, identity: { uid?: number; gid?: number } = {}) {
  const code = `
    const { openDataDirectory } = await import(${JSON.stringify(MODULE)});
    try {
      const opened = await openDataDirectory(process.argv[1]);
      console.log('opened');
      setInterval(() => opened, 60_000);
    } catch (error) {
      console.log(error.name + ': ' + error.message);
    }`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: '/',
    ...identity,
  });
  children.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return { child, said: String((await lines.next()).value) };
}

async function killHard(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

function modeOf(file: string): number {
  return statSync(file).mode & 0o777;
}

describe('the directory', () => {
  test('is made with its parents and cannot be listed by others', async () => {
    const directory = path.join(parent, 'a', 'b');
    const opened = await openDataDirectory(directory);
    expect(modeOf(directory) & 0o066).toBe(0);
    expect(path.isAbsolute(opened.path)).toBe(true);
    await opened.close();
  });

  test('keeps the mode that the operator gave it', async () => {
    const directory = path.join(parent, 'existing');
    mkdirSync(directory, { mode: 0o750 });
    const opened = await openDataDirectory(directory);
    expect(modeOf(directory)).toBe(0o750);
    await opened.close();
  });

  test.each([
    ['is a file', (directory: string) => writeFileSync(directory, ''), (directory: string) => directory],
    [
      'lies under a file',
      (directory: string) => writeFileSync(directory, ''),
      (directory: string) => `${directory}/sub`,
    ],
  ])('is refused in one line when it %s', async (_, arrange, choose) => {
    const directory = path.join(parent, 'data');
    arrange(directory);
    await expect(openDataDirectory(choose(directory))).rejects.toThrow(
      new StartupError(`The data directory ${choose(directory)} cannot be used: a file is in the way.`),
    );
  });

  test('is refused in one line where nothing can be created', async () => {
    await expect(openDataDirectory('/proc/posthorn/data')).rejects.toThrow(
      new StartupError('The data directory /proc/posthorn/data cannot be used: nothing can be created there.'),
    );
  });

  test('is refused in one line when this user may not write to it', async () => {
    chmodSync(parent, 0o555);
    const { said } = await openElsewhere(parent, asRoot ? { uid: 65_534, gid: 65_534 } : {});
    expect(said).toBe(`StartupError: The data directory ${parent} cannot be used: permission denied.`);
  });
});

describe('the lock', () => {
  test('turns away a second process and names the first', async () => {
    const opened = await openDataDirectory(parent);
    const { said } = await openElsewhere(parent);
    expect(said).toBe(`StartupError: The data directory ${parent} is in use by process ${process.pid}.`);
    await opened.close();
  });

  test('turns away a second use in the same process, and holds after that', async () => {
    const opened = await openDataDirectory(parent);
    await expect(openDataDirectory(parent)).rejects.toThrow(`in use by process ${process.pid}`);
    await expect(openDataDirectory(parent)).rejects.toThrow(`in use by process ${process.pid}`);
    expect((await openElsewhere(parent)).said).toContain('in use by process');
    await opened.close();
  });

  test('is the same through a symbolic link and a relative path', async () => {
    const opened = await openDataDirectory(parent);
    await expect(openDataDirectory(path.relative(process.cwd(), parent))).rejects.toThrow('in use by process');
    const link = path.join(parent, 'link');
    symlinkSync(parent, link);
    await expect(openDataDirectory(link)).rejects.toThrow('in use by process');
    await opened.close();
  });

  test('is free again after close, and close may be called twice', async () => {
    const opened = await openDataDirectory(parent);
    await opened.close();
    const next = await openDataDirectory(parent);
    await opened.close();
    await expect(openDataDirectory(parent)).rejects.toThrow('in use by process');
    await next.close();
  });

  test('does not outlive a process that was killed', async () => {
    const { child, said } = await openElsewhere(parent);
    expect(said).toBe('opened');
    await expect(openDataDirectory(parent)).rejects.toThrow(`in use by process ${child.pid}`);
    await killHard(child);
    const opened = await openDataDirectory(parent);
    expect(readFileSync(path.join(parent, 'posthorn.pid'), 'utf8')).toBe(`${process.pid}\n`);
    await opened.close();
  });

  test('is not held by a stale process id, even one that names a living process', async () => {
    writeFileSync(path.join(parent, 'posthorn.pid'), `${process.ppid}\n`);
    const opened = await openDataDirectory(parent);
    await opened.close();
  });

  test('cannot be taken by other users, who may pass the directory', async () => {
    const opened = await openDataDirectory(parent);
    expect(modeOf(path.join(parent, 'posthorn.lock'))).toBe(0o600);
    await opened.close();
  });

  test('lets exactly one of many in', async () => {
    const outcomes = await Promise.all(Array.from({ length: 4 }, () => openElsewhere(parent)));
    expect(outcomes.filter(({ said }) => said === 'opened')).toHaveLength(1);
    expect(outcomes.filter(({ said }) => said.includes('is in use by'))).toHaveLength(3);
  });
});

describe('a secret file', () => {
  test('is made once, for its owner only, and read from then on', async () => {
    const opened = await openDataDirectory(parent);
    expect(await opened.readOrCreateSecret('operator.key', () => 'first')).toBe('first');
    expect(modeOf(path.join(parent, 'operator.key'))).toBe(0o600);
    await opened.close();
    const again = await openDataDirectory(parent);
    const create = () => {
      throw new Error('must not be called');
    };
    expect(await again.readOrCreateSecret('operator.key', create)).toBe('first');
    await again.close();
    expect(readdirSync(parent).filter((name) => name.startsWith('operator.key'))).toEqual(['operator.key']);
  });

  test('is read without the line break that an editor leaves', async () => {
    writeFileSync(path.join(parent, 'operator.key'), ' by hand \r\n');
    const opened = await openDataDirectory(parent);
    expect(await opened.readOrCreateSecret('operator.key', () => 'new')).toBe('by hand');
    await opened.close();
  });

  test('that is empty is refused, not replaced', async () => {
    const file = path.join(parent, 'encryption.key');
    writeFileSync(file, '\n');
    const opened = await openDataDirectory(parent);
    await expect(opened.readOrCreateSecret('encryption.key', () => 'new')).rejects.toThrow(
      new StartupError(
        `The secret file ${file} cannot be used: it is empty: restore it, or remove it to get a new one.`,
      ),
    );
    expect(readFileSync(file, 'utf8')).toBe('\n');
    await opened.close();
  });

  test('whose place is taken by a directory is refused in one line', async () => {
    mkdirSync(path.join(parent, 'operator.key'));
    const opened = await openDataDirectory(parent);
    await expect(opened.readOrCreateSecret('operator.key', () => 'new')).rejects.toBeInstanceOf(StartupError);
    await opened.close();
  });
});
