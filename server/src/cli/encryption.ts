import { Command } from 'commander';
import pg from 'pg';
import { readConfig } from '../config.ts';
import { type MasterKeySource, readMasterKeys } from '../encryption/key-files.ts';
import { openKeyRows, readKeyRows } from '../encryption/key-rows.ts';
import { mustBeOpened } from '../encryption/prepare-keys.ts';
import { countSealedOtherwise } from '../encryption/reseal.ts';
import { rotateDataKey } from '../encryption/rotate-data-key.ts';
import { rotateMasterKey } from '../encryption/rotate-master-key.ts';
import { createLogger } from '../kernel/logger.ts';
import { givenMasterKeys } from '../keys.ts';
import { CommandError } from './command-error.ts';
import { openBesideOthers } from './database-only.ts';
import { wholeNumber } from './number-option.ts';
import type { Terminal } from './terminal.ts';
import { textTable } from './text-table.ts';

/** `posthorn encryption`: the keys that secrets are stored with. */
export function encryptionCommand(terminal: Terminal): Command {
  return new Command('encryption')
    .description('show and rotate the keys that secrets are stored with')
    .addCommand(statusCommand(terminal))
    .addCommand(rotateCommand(terminal))
    .addCommand(rotateMasterCommand(terminal))
    .addHelpText(
      'after',
      `
These work on the database itself, beside the running Posthorn or without it: with the settings that it runs with
(DATABASE_URL, POSTHORN_ENCRYPTION_KEY), else with its data folder (POSTHORN_DATA_DIR).

Examples:
  $ npx posthorn encryption status
  $ npx posthorn encryption rotate
  $ npx posthorn encryption rotate-master`,
    );
}

function statusCommand(terminal: Terminal): Command {
  return new Command('status')
    .description('list the keys, and say whether everything is sealed with the newest one')
    .addHelpText('after', '\nExample:\n  $ npx posthorn encryption status')
    .action(() =>
      withDatabase(terminal, async (pool, source) => {
        const rows = await readKeyRows(pool);
        const { master, keys } = mustBeOpened(openKeyRows(rows, await readMasterKeys(source)));
        const shown = rows.map((row) => [String(row.id), row.purpose, row.state, row.created_at.toISOString()]);
        terminal.print(textTable(KEY_COLUMNS, shown).join('\n'));
        terminal.print(`All are wrapped by master key ${master.name}, and open with it.`);
        const current = keys.find(({ purpose, state }) => purpose === 'sealing' && state === 'current');
        const otherwise = current === undefined ? 0 : await countSealedOtherwise(pool, current.id);
        terminal.print(
          otherwise === 0
            ? 'Every stored secret is sealed with the current data key.'
            : `${otherwise} stored secrets are sealed with an older data key: "posthorn encryption rotate" seals them anew.`,
        );
      }),
    );
}

function rotateCommand(terminal: Terminal): Command {
  return new Command('rotate')
    .description('make a new data key, seal all stored secrets anew with it, and remove the one before')
    .option(
      '--settle-seconds <seconds>',
      'how long requests under way may take to store what they sealed before (default: 20)',
      wholeNumber(0, 3_600),
    )
    .addHelpText(
      'after',
      `
Posthorn may run meanwhile and goes on serving. A rotation that was interrupted is taken up by the next one.

Example:
  $ npx posthorn encryption rotate`,
    )
    .action((options: { settleSeconds?: number }) =>
      withDatabase(terminal, async (pool, source) => {
        const { key, resealed, removed } = await rotateDataKey({
          pool,
          clock: terminal.clock,
          masters: await readMasterKeys(source),
          onStep: (step) => terminal.complain(step),
          ...(options.settleSeconds !== undefined && { settleMs: options.settleSeconds * 1000 }),
        });
        terminal.print(
          `Everything is sealed with data key ${key} (${resealed} anew); removed: ${removed.join(', ') || 'none'}.`,
        );
      }),
    );
}

function rotateMasterCommand(terminal: Terminal): Command {
  return new Command('rotate-master')
    .description('wrap the data keys by a new master key; the one before opens nothing any more')
    .addHelpText(
      'after',
      `
Where the data folder keeps the key, a new one is made and put into its place. Where POSTHORN_ENCRYPTION_KEY gives it:
1. start every Posthorn anew with the new key, and the one until now as POSTHORN_ENCRYPTION_KEY_PREVIOUS
2. run this command with the same two settings
3. take POSTHORN_ENCRYPTION_KEY_PREVIOUS away.
Posthorn may run meanwhile and goes on serving.

Example:
  $ npx posthorn encryption rotate-master`,
    )
    .action(() =>
      withDatabase(terminal, async (pool, source) => {
        if (source.kind === 'given' && source.keys.length === 1) {
          throw new CommandError(
            'POSTHORN_ENCRYPTION_KEY_PREVIOUS is needed beside POSTHORN_ENCRYPTION_KEY: the key until now, and the new one.',
          );
        }
        const { kind, rewrapped } = await rotateMasterKey({
          pool,
          source,
          clock: terminal.clock,
          onStep: (step) => terminal.complain(step),
        });
        const next = source.kind === 'given' ? ' Take POSTHORN_ENCRYPTION_KEY_PREVIOUS away now.' : '';
        terminal.print(
          kind === 'already'
            ? `The keys were wrapped by this master key before.${next}`
            : `${rewrapped} keys are wrapped by the new master key; the one before opens nothing any more.${next}`,
        );
      }),
    );
}

const KEY_COLUMNS = ['key', 'purpose', 'state', 'made'].map((title) => ({ title }));

/** Opens the database, beside a running Posthorn too, and closes it again. */
async function withDatabase(
  terminal: Terminal,
  task: (pool: pg.Pool, source: MasterKeySource) => Promise<void>,
): Promise<void> {
  const config = readConfig('dev', terminal.env);
  const source = givenMasterKeys(config) ?? { kind: 'folder', path: config.dataDir };
  const database = await openBesideOthers(config, createLogger(config.logLevel));
  // No statement timeout: looking at all of a large table takes as long as it takes.
  const pool = new pg.Pool({ ...database.connection, max: 2, application_name: 'posthorn-encryption' });
  pool.on('error', () => {
    // The query under way fails with the same reason.
  });
  try {
    await refuseWithoutKeys(pool);
    await task(pool, source);
  } finally {
    await pool.end();
    await database.close();
  }
}

async function refuseWithoutKeys(pool: pg.Pool): Promise<void> {
  const table = await pool.query<{ found: boolean }>("SELECT to_regclass('encryption_keys') IS NOT NULL AS found");
  const found = table.rows[0]?.found === true && (await readKeyRows(pool)).length > 0;
  if (!found) throw new CommandError('The database has no keys yet: start this version of Posthorn once before.');
}
