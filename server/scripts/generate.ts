/**
 * Writes what is generated from the code: openapi.json, docs/configuration.md and docs/permissions.md. With `--check` it
 * writes nothing and fails when one of them is stale.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { compose } from '../src/composition.ts';
import { readConfig, SETTINGS } from '../src/config.ts';
import { KeyRing } from '../src/encryption/key-ring.ts';
import { type OpenApiDocument, openApiDocument } from '../src/http/openapi.ts';
import { admits, may, PORTAL_ROLES, ROLES } from '../src/http/permissions.ts';
import { systemClock } from '../src/kernel/clock.ts';
import { createLogger } from '../src/kernel/logger.ts';
import { createSecretBox } from '../src/kernel/secret-box.ts';

const ROOT = new URL('../../', import.meta.url);

const document = await openApi();
const files: Record<string, string> = {
  'openapi.json': `${JSON.stringify(document, null, 2)}\n`,
  'docs/configuration.md': configuration(),
  'docs/permissions.md': permissions(document),
};

const check = process.argv.includes('--check');
for (const [name, text] of Object.entries(files)) {
  const file = new URL(name, ROOT);
  if (!check) {
    await writeFile(file, text);
  } else if ((await readFile(file, 'utf8').catch(() => '')) !== text) {
    console.error(`${name} is stale: run "npm run generate" and commit it.`);
    process.exitCode = 1;
  }
}

/** The routes describe themselves; composing the program connects to nothing. */
async function openApi(): Promise<OpenApiDocument> {
  const { http, database, enginePool } = await compose({
    config: readConfig('dev', {}),
    connection: {},
    operatorKey: 'not used here',
    box: createSecretBox(new KeyRing()),
    soleNode: false,
    databaseOutage: () => undefined,
    logger: createLogger('silent'),
    clock: systemClock,
  });
  await http.ready();
  const document = openApiDocument(http);
  await http.close();
  await enginePool.end();
  await database.close();
  return document;
}

function configuration(): string {
  const rows = SETTINGS.map(
    ({ env, default: fallback, description, secret }) =>
      `| \`${env}\` | ${fallback} | ${description}${secret ? ' Secret: it is never logged.' : ''} |`,
  );
  return `# Configuration

Posthorn is configured by environment variables alone. A variable that begins with \`POSTHORN_\` and is not in this table
stops the start, and so does a bad value, with one line that names it.

| variable | default | meaning |
|---|---|---|
${rows.join('\n')}
`;
}

/** Routes with the roles that may call them, in the order of the API document. */
function permissions({ paths }: OpenApiDocument): string {
  const columns = [...ROLES, ...PORTAL_ROLES];
  const rows = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => {
      const permission = operation['x-permission'];
      const cells = columns.map((role) => (admits({ permission, portal: operation['x-portal'] }, role) ? 'yes' : '-'));
      return `| \`${method.toUpperCase()} ${path}\` | ${permission} | ${cells.join(' | ')} |`;
    }),
  );
  const names = ROLES.filter((role) => may(role, 'reveal'));
  const revealing = `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
  return `# Who may call what

Each route needs one permission, and each role has some. \`public\` needs no key. A key or token without the permission gets
a 403, a request without a valid one a 401. The operator key acts for the tenant in \`X-Tenant-Id\`; an API key or a JWT
belongs to one tenant and one environment, and finds nothing of another: a 404, as if it were not there. A key with scopes
has only those permissions of its role that they name ([access.md](access.md)). Portal tokens have no permission: each
route says for itself whether it is for them ([access.md](access.md#portal-tokens)).

Payloads, and what receivers answered, are shown as they are to ${revealing}. Other roles see them
[masked](masking.md).

| route | permission | ${columns.map((role) => role.replace('_', ' ')).join(' | ')} |
|---|---|${columns.map(() => '---').join('|')}|
${rows.join('\n')}
`;
}
