import { readFile } from 'node:fs';
import path from 'node:path';
import type { Clock } from '../../kernel/clock.ts';
import { hostKey } from './allow-list.ts';

/** The names in the machine's hosts file (hosts(5)). */
export interface HostsFile {
  /** Calls back with whether it names `host`. A file that cannot be read names nobody. */
  names(host: string, done: (isNamed: boolean) => void): void;
}

/** The file is read when it is first asked, and again when what was read is older than ten seconds. */
export function openHostsFile(clock: Clock, file = HOSTS_FILE): HostsFile {
  let known: { names: ReadonlySet<string>; readAtMs: number } | undefined;
  let askers: ((names: ReadonlySet<string>) => void)[] | undefined;

  const read = () => {
    readFile(file, 'utf8', (error, text) => {
      const names = error === null ? namesIn(text) : NOBODY;
      known = { names, readAtMs: clock.monotonicMs() };
      const waiting = askers ?? [];
      askers = undefined;
      for (const asker of waiting) asker(names);
    });
  };

  return {
    names(host, done) {
      if (known !== undefined && clock.monotonicMs() - known.readAtMs < KEPT_MS) {
        done(known.names.has(hostKey(host)));
        return;
      }
      const asker = (names: ReadonlySet<string>) => done(names.has(hostKey(host)));
      if (askers !== undefined) {
        askers.push(asker);
        return;
      }
      askers = [asker];
      read();
    },
  };
}

function namesIn(text: string): ReadonlySet<string> {
  const names = new Set<string>();
  for (const line of text.split('\n')) {
    const [, ...hosts] = (line.split('#', 1)[0] ?? '').trim().split(/\s+/);
    for (const host of hosts) names.add(hostKey(host));
  }
  return names;
}

const KEPT_MS = 10_000;

const NOBODY: ReadonlySet<string> = new Set();

const HOSTS_FILE =
  process.platform === 'win32'
    ? path.join(process.env.SystemRoot ?? 'C:\\Windows', 'System32', 'drivers', 'etc', 'hosts')
    : '/etc/hosts';
