import { readFileSync } from 'node:fs';

/** The version in `package.json`, e.g. `1.4.0`. */
export function programVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}
