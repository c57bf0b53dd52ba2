import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const SOURCE = fileURLToPath(new URL('../src/', import.meta.url));

/**
 * The folders from the ground up. A file may import from its own folder and from those on lower floors; folders on one
 * floor do not know each other.
 */
const FLOORS = [
  ['kernel'],
  ['db', 'masking'],
  ['encryption'],
  ['http'],
  ['audit'],
  ['tenants'],
  ['limits'],
  ['access'],
  ['catalog'],
  ['signing', 'shaping', 'routing'],
  ['webhooks'],
  ['templates'],
  ['delivery'],
  ['events'],
  ['analytics'],
  ['retention', 'erasure', 'live', 'documents'],
  ['alerts'],
  ['compat'],
  ['operations'],
  [
    'config-file.ts',
    'config.ts',
    'settings.ts',
    'keys.ts',
    'storage.ts',
    'change-notices.ts',
    'composition.ts',
    'prepare-database.ts',
    'node.ts',
    'app.ts',
  ],
  ['processes'],
  ['cli'],
  ['main.ts'],
];

const floorOf = (room: string): number => FLOORS.findIndex((rooms) => rooms.includes(room));

const files = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
const isTest = (file: string): boolean =>
  /(\.test|\.arbitrary|-fixture)\.ts$/.test(file) || file.startsWith('testing/');
const roomOf = (file: string): string => file.split('/')[0] ?? file;

function importsOf(file: string): string[] {
  const text = readFileSync(path.join(SOURCE, file), 'utf8');
  const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+)'/g)].map((match) => match[1] ?? '');
  return specifiers.map((specifier) => path.join(path.dirname(file), specifier));
}

test('every folder and file of the source has its floor', () => {
  const rooms = new Set(files.filter((file) => !isTest(file)).map(roomOf));
  expect([...rooms].filter((room) => floorOf(room) === -1)).toEqual([]);
});

test('imports point downwards only', () => {
  const upward: string[] = [];
  for (const file of files.filter((each) => !isTest(each))) {
    for (const imported of importsOf(file)) {
      const [from, to] = [roomOf(file), roomOf(imported)];
      // The files beside the folders make one room.
      const sameRoom = from === to || (from.endsWith('.ts') && floorOf(from) === floorOf(to));
      if (!sameRoom && floorOf(to) >= floorOf(from)) upward.push(`${file} -> ${imported}`);
      if (isTest(imported)) upward.push(`${file} -> ${imported} (a test's)`);
    }
  }
  expect(upward).toEqual([]);
});

test('no file imports itself in a circle', () => {
  const graph = new Map(files.filter((file) => !isTest(file)).map((file) => [file, runtimeImportsOf(file)]));
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, trail: string[]) => {
    if (trail.includes(file)) circles.push([...trail.slice(trail.indexOf(file)), file].join(' -> '));
    if (done.has(file) || trail.includes(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...trail, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  expect(circles).toEqual([]);
});

/** Types are gone at run time, and two files may know each other's types. */
function runtimeImportsOf(file: string): string[] {
  const text = readFileSync(path.join(SOURCE, file), 'utf8').replaceAll(/import type [^;]+;/g, '');
  const specifiers = [...text.matchAll(/from\s+'(\.{1,2}\/[^']+)'/g)].map((match) => match[1] ?? '');
  return specifiers.map((specifier) => path.join(path.dirname(file), specifier));
}
