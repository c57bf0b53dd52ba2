import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/**
 * The bench runs its generator, sink and relay in processes of their own. This is the contract between the main process
 * and such a part: named calls with one JSON value each way, one at a time or several.
 */
export type Calls = Record<string, (input: never) => unknown>;

type Request = { id: number; call: string; input: unknown };
type Answer = { id: number; value: unknown } | { id: number; problem: string };

/** The part's side. The process ends when the main process is gone, however that came about. */
export function answerCalls(calls: Calls): void {
  process.on('disconnect', () => process.exit(0));
  // A Ctrl-C in the terminal reaches every process of the group; the main process decides the order of stopping.
  process.on('SIGINT', () => {});
  process.on('message', async ({ id, call, input }: Request) => {
    let answer: Answer;
    try {
      answer = { id, value: await calls[call]?.(input as never) };
    } catch (error) {
      answer = { id, problem: error instanceof Error ? error.message : String(error) };
    }
    process.send?.(answer);
  });
}

/** The main process's side. */
export interface Part<C extends Calls> {
  pid: number;
  /** Rejects when the part threw or ended. */
  call<Name extends keyof C & string>(name: Name, input: Parameters<C[Name]>[0]): Promise<Awaited<ReturnType<C[Name]>>>;
  /** Resolves when the process is gone. */
  stop(): Promise<void>;
}

/** @param file a module beside this one that uses `answerCalls`. */
export function startPart<C extends Calls>(file: string): Part<C> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  let lastId = 0;
  const gone = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => {
      for (const { reject } of waiting.values()) reject(new Error(`${file} ended with ${code ?? signal}.`));
      waiting.clear();
      resolve();
    });
  });
  child.on('message', (answer: Answer) => {
    const caller = waiting.get(answer.id);
    waiting.delete(answer.id);
    if ('problem' in answer) caller?.reject(new Error(`${file}: ${answer.problem}`));
    else caller?.resolve(answer.value as never);
  });
  return {
    pid: child.pid ?? 0,
    call(name, input) {
      const { promise, resolve, reject } = Promise.withResolvers<never>();
      lastId += 1;
      waiting.set(lastId, { resolve, reject });
      child.send({ id: lastId, call: name, input } satisfies Request, (error) => {
        if (error !== null) reject(error);
      });
      return promise;
    },
    async stop() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}
