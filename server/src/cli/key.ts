import { Command, Option } from 'commander';
import { Type } from 'typebox';
import { API_KEY_ROLES } from '../access/key-roles.ts';
import { readConfig } from '../config.ts';
import { type ApiClient, apiPath, createApiClient } from './api-client.ts';
import { CommandError } from './command-error.ts';
import {
  addConnectionOptions,
  type ConnectionOptions,
  operatorKeyFile,
  readOperatorKey,
  resolveConnection,
} from './connection.ts';
import { printable } from './safe-text.ts';
import type { Terminal } from './terminal.ts';
import { textTable } from './text-table.ts';

/** `posthorn key`: the API keys of a tenant, and where the operator key is. */
export function keyCommand(terminal: Terminal): Command {
  return new Command('key')
    .description('create, list and revoke API keys; show the operator key')
    .addCommand(createCommand(terminal))
    .addCommand(listCommand(terminal))
    .addCommand(revokeCommand(terminal))
    .addCommand(operatorCommand(terminal))
    .addHelpText(
      'after',
      `
Examples:
  $ npx posthorn key create --name "billing service" --role publisher
  $ npx posthorn key list --tenant acme --environment staging
  $ npx posthorn key revoke key_01jz0000000000000000000000`,
    );
}

const CreatedKey = Type.Object({ id: Type.String(), key: Type.String() });

const KeyList = Type.Object({
  data: Type.Array(
    Type.Object({
      id: Type.String(),
      name: Type.String(),
      role: Type.String(),
      environment: Type.String(),
      key_hint: Type.String(),
      last_used_at: Type.Union([Type.String(), Type.Null()]),
      revoked_at: Type.Union([Type.String(), Type.Null()]),
    }),
  ),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
});

function createCommand(terminal: Terminal): Command {
  const command = new Command('create')
    .description('make a key for one tenant and environment; it is shown once')
    .requiredOption('--name <name>', 'what the key is for')
    .addOption(new Option('--role <role>', 'what the key may do').choices(API_KEY_ROLES).makeOptionMandatory(true));
  return addConnectionOptions(command)
    .addHelpText(
      'after',
      `
The key alone goes to standard output, so that it can be caught; the rest goes to standard error.

Example:
  $ KEY=$(npx posthorn key create --name "billing service" --role publisher)`,
    )
    .action(async (options: ConnectionOptions & { name: string; role: string }) => {
      const client = createApiClient(resolveConnection(options, terminal.env));
      const { name, role, environment } = options;
      const body = { name, role, environment };
      const created = await client.call(CreatedKey, { method: 'POST', path: KEYS_PATH, body });
      terminal.complain(`Made ${printable(created.id)} (${role}). It is shown this once:`);
      terminal.print(printable(created.key));
    });
}

function listCommand(terminal: Terminal): Command {
  return addConnectionOptions(new Command('list').description('list the keys of a tenant, revoked ones too'))
    .addHelpText('after', '\nExample:\n  $ npx posthorn key list')
    .action(async (options: ConnectionOptions) => {
      const keys = await fetchKeys(createApiClient(resolveConnection(options, terminal.env)));
      if (keys.length === 0) {
        terminal.print('There are no keys; "posthorn key create" makes one.');
        return;
      }
      const rows = keys.map((key) => [
        key.id,
        key.environment,
        key.role,
        `${key.key_hint}...`,
        key.revoked_at === null ? (key.last_used_at ?? 'never') : 'revoked',
        key.name,
      ]);
      terminal.print(textTable(KEY_COLUMNS, rows).join('\n'));
    });
}

function revokeCommand(terminal: Terminal): Command {
  const command = new Command('revoke').description('end a key, at once').argument('<id>', 'id of the key (key_...)');
  return addConnectionOptions(command)
    .addHelpText('after', '\nExample:\n  $ npx posthorn key revoke key_01jz0000000000000000000000')
    .action(async (id: string, options: ConnectionOptions) => {
      const client = createApiClient(resolveConnection(options, terminal.env));
      await client.callRaw({ method: 'DELETE', path: apiPath(KEYS_PATH, id) });
      terminal.print(`Revoked ${printable(id)}.`);
    });
}

function operatorCommand(terminal: Terminal): Command {
  return new Command('operator')
    .description('print the operator key that the data folder keeps')
    .addHelpText(
      'after',
      `
Example:
  $ curl -H "Authorization: Bearer $(npx posthorn key operator)" http://127.0.0.1:7678/api/v1/webhooks`,
    )
    .action(() => {
      const config = readConfig('dev', terminal.env);
      if (config.operatorKey !== undefined) {
        throw new CommandError('POSTHORN_OPERATOR_KEY is set: it is the operator key, and none is kept.');
      }
      const key = readOperatorKey(config);
      if (key === undefined) {
        throw new CommandError(
          `${operatorKeyFile(config)} is missing: Posthorn makes it when it first starts with this data folder.`,
        );
      }
      terminal.print(printable(key));
    });
}

const KEYS_PATH = '/api/v1/api-keys';

const KEY_COLUMNS = ['id', 'environment', 'role', 'key', 'last used', 'name'].map((title) => ({ title }));

async function fetchKeys(client: ApiClient): Promise<Type.Static<typeof KeyList>['data']> {
  const keys: Type.Static<typeof KeyList>['data'] = [];
  for (let cursor: string | null = ''; cursor !== null; ) {
    const query = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const page: Type.Static<typeof KeyList> = await client.call(KeyList, {
      method: 'GET',
      path: `${KEYS_PATH}?limit=250${query}`,
    });
    keys.push(...page.data);
    cursor = page.next_cursor;
  }
  return keys;
}
