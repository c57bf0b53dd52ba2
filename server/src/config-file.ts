import { closeSync, openSync, readSync } from 'node:fs';
import { StartupError } from './kernel/startup-error.ts';

/** Far more than all settings take. */
const FILE_BYTES_MAX = 1_048_576;

/** A setting of a configuration file. */
export interface FileSetting {
  /** The environment variable that it stands for. */
  env: string;
  value: string;
  /** Its name as the file has it, such as `retry.max_queue_size`. */
  name: string;
}

/**
 * Reads a configuration file: a JSON object with settings by their names in small letters without `POSTHORN_`, also in
 * groups of any name, as call-center.md prints them under "Scaling Configuration". Lists are written as arrays.
 *
 * @throws StartupError when the file cannot be read, or names a setting twice
 */
export function readConfigFile(path: string): FileSetting[] {
  const settings: FileSetting[] = [];
  const add = (member: string, value: unknown, name: string) => {
    const text = textOf(value);
    if (text === undefined) {
      throw new StartupError(`${path}: ${name} must be a number, a text, true, false or a list of texts.`);
    }
    const env = `POSTHORN_${member.toUpperCase()}`;
    if (settings.some((known) => known.env === env)) throw new StartupError(`${path}: ${name} is there twice.`);
    settings.push({ env, value: text, name });
  };
  for (const [name, value] of Object.entries(readObject(path))) {
    if (!isObject(value)) add(name, value, name);
    else for (const [member, inner] of Object.entries(value)) add(member, inner, `${name}.${member}`);
  }
  return settings;
}

function readObject(path: string): object {
  let text: string | undefined;
  try {
    text = readText(path);
  } catch (error) {
    throw new StartupError(
      `POSTHORN_CONFIG_FILE cannot be read (${(error as NodeJS.ErrnoException).code}); it is ${JSON.stringify(path)}.`,
    );
  }
  let value: unknown;
  try {
    value = text === undefined ? undefined : JSON.parse(text);
  } catch {
    // Said below; the parser's own words would quote the file.
  }
  if (!isObject(value)) throw new StartupError(`${path} must be a JSON object of settings.`);
  return value;
}

/** Undefined for more than a file may have: a path may lead to a device that never ends. A byte order mark is skipped. */
function readText(path: string): string | undefined {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(FILE_BYTES_MAX + 1);
    let length = 0;
    for (let read = 1; read > 0; length += read) read = readSync(file, bytes, length, bytes.length - length, null);
    return length > FILE_BYTES_MAX ? undefined : bytes.toString('utf8', 0, length).replace(/^\uFEFF/, '');
  } finally {
    closeSync(file);
  }
}

function textOf(value: unknown): string | undefined {
  if (Array.isArray(value)) return value.every((each) => typeof each === 'string') ? value.join(',') : undefined;
  return ['string', 'number', 'boolean'].includes(typeof value) ? String(value) : undefined;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
