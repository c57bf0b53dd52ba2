import { Command } from 'commander';
import { PLATFORM_CHAIN } from '../audit/hash.ts';
import { type ChainVerdict, listChains, verifyChain } from '../audit/verify.ts';
import { readConfig } from '../config.ts';
import { type Database, openDatabase } from '../db/pool.ts';
import { createLogger } from '../kernel/logger.ts';
import { findTenant, readTenantRef } from '../tenants/queries.ts';
import { CommandError } from './command-error.ts';
import { openBesideOthers } from './database-only.ts';
import type { Terminal } from './terminal.ts';

/** `posthorn audit`: the check of the audit log. */
export function auditCommand(terminal: Terminal): Command {
  return new Command('audit').description('check the audit log').addCommand(verifyCommand(terminal));
}

interface VerifyOptions {
  tenant?: string;
  platform?: true;
  expect?: string[];
}

function verifyCommand(terminal: Terminal): Command {
  return new Command('verify')
    .description('check that no entry of the audit log was changed, removed or put in')
    .option('--tenant <tenant>', 'slug or id of one tenant (default: all tenants, and the platform)')
    .option('--platform', 'only what belongs to no tenant')
    .option('--expect <hash...>', 'a hash noted earlier, which must be in one of the chains')
    .addHelpText(
      'after',
      `
Prints a line for each chain: its entries, and the number and hash of the last one. Ends with 1 when an entry does not
fit, and names the first that does not. Whoever may write to the database can make all of it anew, or cut off its end;
so note the last hash elsewhere, and give it with --expect next time. Hashes that were removed because of their age are
not found any more, but the last one of them is.

It works beside the running Posthorn or without it: with DATABASE_URL on that database, else on the embedded one.

Examples:
  $ DATABASE_URL=postgresql://posthorn@db/posthorn npx posthorn audit verify
  $ npx posthorn audit verify --tenant acme --expect 3f786850e387550fdab836ed7e6dc881de23001b...`,
    )
    .action(async (options: VerifyOptions) => {
      const config = readConfig('dev', terminal.env);
      const expected = (options.expect ?? []).map(readHash);
      const logger = createLogger(config.logLevel);
      const storage = await openBesideOthers(config, logger);
      const { db, close } = openDatabase({ connection: storage.connection, max: 2, logger });
      try {
        await verifyAll(db, await chosenChains(db, options), expected, terminal);
      } finally {
        await close();
        await storage.close();
      }
    });
}

async function verifyAll(db: Database, chains: string[], expected: string[], terminal: Terminal): Promise<void> {
  const missing = new Set(expected);
  const faults: string[] = [];
  for (const tenantId of chains) {
    const name = await nameOf(db, tenantId);
    const verdict = await verifyChain(db, tenantId, (hash) => missing.delete(hash));
    if (verdict.fault === undefined) terminal.print(describe(name, verdict));
    else faults.push(`${name}: ${verdict.fault}`);
  }
  for (const fault of faults) terminal.complain(fault);
  for (const hash of missing)
    terminal.complain(`${hash} is in none of the chains: entries are missing or were made anew.`);
  if (faults.length + missing.size > 0) throw new CommandError('The audit log is not what was written.');
}

function describe(name: string, { entries, head, removed }: ChainVerdict): string {
  const counted = `${entries} ${entries === 1 ? 'entry' : 'entries'}`;
  const older = removed === 0 ? '' : `, ${removed} older ones removed`;
  return `${name}: ${counted}${older}; the last is ${head.sequence} with ${head.hash}`;
}

async function chosenChains(db: Database, { tenant, platform }: VerifyOptions): Promise<string[]> {
  if (tenant !== undefined && platform) throw new CommandError('Give --tenant or --platform, not both.');
  if (platform) return [PLATFORM_CHAIN];
  if (tenant === undefined) return listChains(db);
  const ref = readTenantRef(tenant);
  const row = ref && (await findTenant(db, ref));
  if (row === undefined) throw new CommandError('There is no such tenant.');
  return [row.id];
}

async function nameOf(db: Database, tenantId: string): Promise<string> {
  if (tenantId === PLATFORM_CHAIN) return 'platform';
  return (await findTenant(db, { id: tenantId }))?.slug ?? `a tenant that is not there (${tenantId})`;
}

function readHash(text: string): string {
  const hash = text.toLowerCase();
  if (!/^[0-9a-f]{64}$/.test(hash)) throw new CommandError('--expect takes the 64 hexadecimal digits of a hash.');
  return hash;
}
