import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

/** docs/requirements.md against the requirement documents, where they lie beside the repository, and against the tests. */
const DOCUMENTS = new URL('../../../shared/requirements/', import.meta.url);
const NAMES = ['isp-communications', 'isp-framework', 'call-center', 'support-autoresponder', 'whatsapp-crm'];

/** What is built after this. */
const LATER = ['services', 'sources', 'dashboard', 'SDK'];

const TEXT = readFileSync(new URL('../../docs/requirements.md', import.meta.url), 'utf8');

/** The cells of each row of the table under a heading, without the two rows of its head. */
function tableUnder(heading: string): string[][] {
  const section = TEXT.split(/^## /m).find((each) => each.startsWith(`${heading}\n`)) ?? '';
  const rows = section.split('\n').filter((line) => line.startsWith('|'));
  return rows.slice(2).map((row) => row.slice(2, -2).split(/(?<!\\) \| /));
}

const TESTS = new Map(tableUnder('Tests').map(([name = '', file = '', title = '']) => [name, { file, title }]));

test('each table has lines, and there are tests', () => {
  expect(NAMES.map((name) => tableUnder(`${name}.md`).length)).toEqual([82, 90, 143, 63, 157]);
  expect(TESTS.size).toBeGreaterThan(100);
});

describe.each(NAMES)('%s.md', (name) => {
  const rows = tableUnder(`${name}.md`);

  test('has something that is known as the proof of each line', () => {
    const known = [...TESTS.keys(), ...LATER.map((part) => `later issue (${part})`)];
    for (const [section, line, proofs = ''] of rows) {
      for (const proof of proofs.split(', ')) expect(known, `${section}: ${line}`).toContain(proof);
    }
  });

  test.runIf(existsSync(DOCUMENTS))('has every line of the document, in its order', () => {
    const printed = linesOf(readFileSync(new URL(`${name}.md`, DOCUMENTS), 'utf8'));
    expect(rows.map(([section = '', line = '']) => [section, line.replaceAll('\\|', '|')])).toEqual(printed);
  });
});

test('every test that is named is there, and named for something', () => {
  const proofs = new Set(
    NAMES.flatMap((name) => tableUnder(`${name}.md`).flatMap(([, , each = '']) => each.split(', '))),
  );
  for (const [name, { file, title }] of TESTS) {
    expect(proofs, name).toContain(name);
    const path = new URL(`../${file.replaceAll('`', '')}`, import.meta.url);
    expect(existsSync(path), `${name}: ${file}`).toBe(true);
    const source = readFileSync(path, 'utf8').replaceAll("\\'", "'");
    expect(source.includes(title), `${name}: ${title}`).toBe(true);
  }
});

/**
 * What of a document asks for something: items of lists, rows of tables, endpoints, code blocks and sentences, each with the
 * heading above it.
 */
function linesOf(text: string): [section: string, line: string][] {
  const found: [string, string][] = [];
  let section = '';
  let language: string | undefined;
  let block: string[] = [];
  for (const line of text.split('\n')) {
    const fence = /^ *```(\w*)/.exec(line);
    if (fence !== null) {
      if (language === undefined) [language, block] = [fence[1] ?? '', []];
      else {
        const beginning = block.map((each) => each.trim().replace(/ \\$/, '')).filter((each) => each !== '');
        if (language !== '') found.push([section, `Example (${language}): ${beginning.join(' ').slice(0, 60).trim()}`]);
        language = undefined;
      }
    } else if (language !== undefined) {
      block.push(line);
      const [, method, path, about] = /^(GET|POST|PUT|PATCH|DELETE) +(\S+)(?: +- (.*))?$/.exec(line) ?? [];
      if (language === '' && method !== undefined)
        found.push([section, [`${method} ${path}`, about ?? []].flat().join(' - ')]);
    } else if (/^#+ /.test(line)) section = line.replace(/^#+ /, '').trim();
    // Of a table the row before this one is its head.
    else if (/^\|[-| ]+\|$/.test(line)) found.pop();
    else if (line.startsWith('|')) {
      const cells = line
        .trim()
        .replace(/^\||\|$/g, '')
        .split('|');
      found.push([section, cells.map((cell) => cell.trim()).join(' · ')]);
    } else if (line.startsWith('✅')) found.push([section, line.trim()]);
    else if (!line.includes('](#')) {
      const item = /^\s*(?:[-*]|\d+\.)\s+(.+)$/.exec(line)?.[1];
      if (item !== undefined) found.push([section, item.trim()]);
      else if (isStatement(line)) found.push([section, line.trim().slice(0, 100).trim()]);
    }
  }
  return found;
}

/**
 * What is said in a sentence of its own. What only leads to a list or an example ends in a colon, but a count in it is a claim;
 * the imprint stands in italics.
 */
function isStatement(line: string): boolean {
  if (/^(?:$|-{3,}|\*\*[^*]+:\*\*$|\*[^*]+\*$)/.test(line.trim())) return false;
  return !line.trim().endsWith(':') || /\d/.test(line);
}
