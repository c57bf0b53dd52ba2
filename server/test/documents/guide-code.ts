import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { makeTemporaryDirectory } from '../../src/testing/temporary-directory.ts';

/** Runs the programs of the guides in `docs/`, each of which is a code block that begins with a comment with its name. */
export interface Guide {
  text: string;
  /** Holds its programs as files. */
  folder: string;
  /** Starts one, and resolves when it says where it listens. */
  start(name: string, env: Record<string, string>): Promise<GuideProgram>;
  /** Runs one to its end. */
  run(
    name: string,
    env: Record<string, string>,
    args?: string[],
  ): Promise<{ code: number | null; output: string; errors: string }>;
  /** Rows of the table whose head has this first cell, with plain texts in place of code. */
  table(head: string): string[][];
  /** Stops what still runs, and removes the files. */
  remove(): Promise<void>;
}

export interface GuideProgram {
  url: string;
  /** What it has printed so far, by line. */
  lines(): string[];
  kill(): Promise<void>;
}

export function openGuide(name: string): Guide {
  const text = readFileSync(new URL(`../../../docs/${name}`, import.meta.url), 'utf8');
  const folder = makeTemporaryDirectory();
  for (const [, code = ''] of text.matchAll(/^```\w+\n(.*?)^```$/gms)) {
    const [, file] = /^(?:\/\/|#) ([\w.-]+\.(?:mjs|py|sh))\b/.exec(code) ?? [];
    if (file !== undefined) writeFileSync(path.join(folder, file), code);
  }
  const running = new Set<ChildProcess>();
  const launch = (file: string, env: Record<string, string>, args: string[] = []) => {
    const command = { '.mjs': process.execPath, '.py': 'python3', '.sh': 'bash' }[path.extname(file)] ?? '';
    const child = spawn(command, [path.join(folder, file), ...args], {
      cwd: folder,
      // The folder is its home, so that nothing of the person's who runs the tests is read.
      env: { PATH: process.env.PATH, HOME: folder, PYTHONDONTWRITEBYTECODE: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(child);
    const said = { output: '', errors: '' };
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      said.output += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      said.errors += chunk;
    });
    const ended = once(child, 'close').then(([code]) => {
      running.delete(child);
      return code as number | null;
    });
    return { child, said, ended };
  };
  return {
    text,
    folder,
    async start(file, env) {
      const { child, said, ended } = launch(file, { PORT: '0', ...env });
      const port = new Promise<string>((resolve, reject) => {
        child.stdout?.on('data', () => {
          const [, found] = /^listening on (\d+)$/m.exec(said.output) ?? [];
          if (found !== undefined) resolve(found);
        });
        void ended.then((code) => reject(new Error(`${file} ended with ${code}: ${said.errors}`)));
      });
      return {
        url: `http://127.0.0.1:${await port}`,
        lines: () => said.output.split('\n').slice(0, -1),
        async kill() {
          child.kill('SIGKILL');
          await ended;
        },
      };
    },
    async run(file, env, args) {
      const { said, ended } = launch(file, env, args);
      return { code: await ended, ...said };
    },
    table(head) {
      const [, rows = ''] = text.split(`\n| ${head} |`);
      return rows
        .split('\n\n')[0]
        ?.split('\n')
        .slice(2)
        .map((row) =>
          row
            .slice(2, -2)
            .split(' | ')
            .map((cell) => cell.replaceAll('`', '').trim()),
        ) as string[][];
    },
    async remove() {
      const left = [...running];
      for (const child of left) child.kill('SIGKILL');
      await Promise.all(left.map((child) => (running.has(child) ? once(child, 'close') : undefined)));
      await rm(folder, { recursive: true, force: true });
    },
  };
}
