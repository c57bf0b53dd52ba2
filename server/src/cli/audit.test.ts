import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { bySystem } from '../audit/auditor.ts';
import { PLATFORM_CHAIN } from '../audit/hash.ts';
import { createAuditLog } from '../audit/log.ts';
import { removeEntriesBefore } from '../audit/queries.ts';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource, timeOfId } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { insertTenant } from '../tenants/queries.ts';
import { DEFAULT_SETTINGS } from '../tenants/types.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { runCli } from './program.ts';
import { scriptedTerminal } from './scripted-terminal.ts';

let nowMs = Date.now();
/** Each id is of a millisecond of its own. */
const newId = createIdSource({ ...systemClock, now: () => nowMs++ });
const audit = createAuditLog({ newId });
let database: TestDatabase;
let handle: DatabaseHandle;
/** Writes past the triggers, as somebody with a superuser's rights can. */
let intruder: pg.Client;
beforeAll(async () => {
  database = await createTestDatabase();
  handle = openDatabase({ connection: database.connection, logger: createLogger('silent') });
  intruder = new pg.Client(database.connection);
  await intruder.connect();
  await intruder.query('SET session_replication_role = replica');
});
afterAll(async () => {
  await intruder.end();
  await handle.close();
  await database.drop();
});

let made = 0;
let slug: string;
let tenantId: string;
let other: string;
beforeEach(async () => {
  await intruder.query('DELETE FROM audit_log; DELETE FROM audit_chains; DELETE FROM tenants');
  await intruder.query('SELECT begin_audit_chain($1)', [PLATFORM_CHAIN]);
  made += 1;
  slug = `acme-${made}`;
  tenantId = await makeTenant(slug);
  other = await makeTenant(`other-${made}`);
  for (let count = 0; count < 5; count += 1) {
    await write(tenantId);
    await write(other);
  }
});

async function makeTenant(name: string): Promise<string> {
  const tenant = { slug: name, name, settings: DEFAULT_SETTINGS };
  const row = await handle.db.transaction().execute((trx) => insertTenant(trx, tenant, newId, new Date()));
  return row?.id as string;
}

const write = (chain: string) =>
  handle.db.transaction().execute((trx) =>
    audit.record(trx, bySystem({ tenantId: chain, environmentId: null }), {
      action: 'thing.made',
      resourceType: 'thing',
      resourceId: 'a',
      after: { a: 1 },
    }),
  );

async function verify(...args: string[]) {
  const terminal = scriptedTerminal({ env: { DATABASE_URL: database.connectionString, POSTHORN_LOG_LEVEL: 'silent' } });
  const code = await runCli(['audit', 'verify', ...args], terminal);
  return { code, output: terminal.output(), errors: terminal.errors() };
}

async function headOf(chain: string): Promise<string> {
  const row = await handle.db
    .selectFrom('audit_chains')
    .select('hash')
    .where('tenant_id', '=', chain)
    .executeTakeFirst();
  return row?.hash.toString('hex') as string;
}

test('what was written fits: a line for each chain, with its last hash', async () => {
  const { code, output, errors } = await verify();
  expect([code, errors]).toEqual([0, '']);
  expect(output.split('\n')).toContain(`${slug}: 5 entries; the last is 5 with ${await headOf(tenantId)}`);
  expect(output.split('\n')).toHaveLength(4);
  expect(output).toContain('platform: 0 entries; the last is 0 with ');
});

test('one tenant or the platform alone, and a tenant that is not there', async () => {
  expect((await verify('--tenant', slug)).output).toMatch(new RegExp(`^${slug}: 5 entries.*\n$`));
  expect((await verify('--platform')).output).toMatch(/^platform: 0 entries.*\n$/);
  for (const name of ['no-such', '', "'; --"]) {
    expect(await verify('--tenant', name)).toMatchObject({ code: 1, errors: 'posthorn: There is no such tenant.\n' });
  }
});

describe('what was tampered with is named', () => {
  const at = 'WHERE tenant_id = $1 AND sequence =';
  test.each([
    ['a changed action', `UPDATE audit_log SET action = 'thing.mada' ${at} 3`, 'Entry 3'],
    ['a changed actor', `UPDATE audit_log SET actor_id = 'someone' ${at} 3`, 'Entry 3'],
    ['a changed address', `UPDATE audit_log SET address = '192.0.2.1' ${at} 2`, 'Entry 2'],
    ['white space in what was after', `UPDATE audit_log SET after = '{"a": 1}' ${at} 4`, 'Entry 4'],
    ['a time', `UPDATE audit_log SET id = '01900000-0000-7000-8000-000000000000' ${at} 1`, 'Entry 1'],
    ['a hash of the last one', `UPDATE audit_log SET hash = sha256('x') ${at} 5`, 'Entry 5'],
    ['one that was removed', `DELETE FROM audit_log ${at} 3`, 'Entry 3 is missing'],
    ['the first one removed', `DELETE FROM audit_log ${at} 1`, 'Entry 1 is missing'],
    ['the last one removed', `DELETE FROM audit_log ${at} 5`, 'Entry 5 is missing'],
    [
      'all of them removed',
      'DELETE FROM audit_log WHERE tenant_id = $1',
      'Entry 1 is missing: the chain goes on to 5, the log ends here.',
    ],
    [
      'two that were swapped',
      'UPDATE audit_log SET sequence = 105 - sequence WHERE tenant_id = $1 AND sequence IN (2, 3)',
      'Entry 2 ',
    ],
    [
      'one that was put in at the end',
      `INSERT INTO audit_log SELECT tenant_id, 6, gen_random_uuid(), environment_id, action, outcome, actor_kind, actor_id,
        role, address, request_id, resource_type, resource_id, before, after, details, hash FROM audit_log ${at} 5`,
      'Entry 6',
    ],
    ['a chain that is gone', 'DELETE FROM audit_chains WHERE tenant_id = $1', 'The chain is not there'],
    [
      'an end that was set back',
      'UPDATE audit_chains SET sequence = 4 WHERE tenant_id = $1',
      'Entry 5 should not be there: the chain ends before it.',
    ],
    [
      'an end with another hash',
      `UPDATE audit_chains SET hash = sha256('x') WHERE tenant_id = $1`,
      'The end of the chain is not the hash of entry 5.',
    ],
    [
      'a beginning that is said to have been removed',
      'UPDATE audit_chains SET removed_sequence = 2 WHERE tenant_id = $1',
      'Entry 1',
    ],
  ])('%s', async (_name, statement, told) => {
    await intruder.query(statement, [tenantId]);
    if (statement.includes('105 -')) {
      await intruder.query('UPDATE audit_log SET sequence = sequence - 100 WHERE tenant_id = $1 AND sequence > 100', [
        tenantId,
      ]);
    }
    const { code, output, errors } = await verify();
    expect(code).toBe(1);
    expect(errors).toContain(`${slug}: ${told}`);
    expect(errors).toContain('posthorn: The audit log is not what was written.');
    // The others are looked at all the same.
    expect(output).toContain(`other-${made}: 5 entries`);
  });

  test('an entry of another tenant that was moved in, in a place that was free', async () => {
    await intruder.query('DELETE FROM audit_log WHERE tenant_id = $1 AND sequence = 3', [tenantId]);
    await intruder.query('UPDATE audit_log SET tenant_id = $1 WHERE tenant_id = $2 AND sequence = 3', [
      tenantId,
      other,
    ]);
    const { errors } = await verify();
    expect(errors).toContain(`${slug}: Entry 3 `);
    expect(errors).toContain(`other-${made}: Entry 3 is missing`);
  });

  test('the whole chains of two tenants that were exchanged', async () => {
    for (const table of ['audit_log', 'audit_chains']) {
      await intruder.query(
        `CREATE TEMP TABLE moved AS SELECT * FROM ${table} WHERE tenant_id IN ('${tenantId}', '${other}')`,
      );
      await intruder.query(`DELETE FROM ${table} WHERE tenant_id IN ($1, $2)`, [tenantId, other]);
      await intruder.query(
        'UPDATE moved SET tenant_id = CASE tenant_id WHEN $1::uuid THEN $2::uuid ELSE $1::uuid END',
        [tenantId, other],
      );
      await intruder.query(`INSERT INTO ${table} SELECT * FROM moved`);
      await intruder.query('DROP TABLE moved');
    }
    const { errors } = await verify();
    expect(errors).toContain(`${slug}: Entry 1 `);
    expect(errors).toContain(`other-${made}: Entry 1 `);
  });

  test('an entry that was changed and hashed anew does not fit to the one behind it', async () => {
    await intruder.query(`UPDATE audit_log SET hash = sha256('anew') WHERE tenant_id = $1 AND sequence = 2`, [
      tenantId,
    ]);
    expect((await verify('--tenant', slug)).errors).toContain('Entry 2');
  });
});

describe('--expect', () => {
  test('finds a hash that was the last one once, also when the entries up to it were removed', async () => {
    const noted = await headOf(tenantId);
    await write(tenantId);
    expect((await verify('--expect', noted)).code).toBe(0);
    expect((await verify('--tenant', slug, '--expect', noted.toUpperCase())).code).toBe(0);
    // The entries up to it, and no more.
    const { rows } = await intruder.query('SELECT max(id::text) AS id FROM audit_log WHERE tenant_id = $1', [tenantId]);
    await removeEntriesBefore(handle.db, tenantId, timeOfId(rows[0].id));
    expect((await verify('--tenant', slug, '--expect', noted)).output).toContain('older ones removed');
  });

  test('misses the end that was cut off, and a chain that was made anew as a whole', async () => {
    const noted = await headOf(tenantId);
    await intruder.query('DELETE FROM audit_log WHERE tenant_id = $1 AND sequence = 5', [tenantId]);
    await intruder.query(
      `UPDATE audit_chains SET sequence = 4,
         hash = (SELECT hash FROM audit_log WHERE tenant_id = $1 AND sequence = 4) WHERE tenant_id = $1`,
      [tenantId],
    );
    // Nothing in the database tells of it.
    expect((await verify()).code).toBe(0);
    const { code, errors } = await verify('--expect', noted);
    expect(code).toBe(1);
    expect(errors).toContain(`${noted} is in none of the chains`);
  });

  test('takes hashes only', async () => {
    expect((await verify('--expect', 'abc')).errors).toContain('64 hexadecimal digits');
  });
});
