/**
 * Writes what is generated from the code: openapi.json, docs/configuration.md, docs/errors.md and docs/permissions.md.
 * With `--check` it writes nothing and fails when one of them is stale.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { compose } from '../src/composition.ts';
import { readConfig } from '../src/config.ts';
import { KeyRing } from '../src/encryption/key-ring.ts';
import { type OpenApiDocument, openApiDocument } from '../src/http/openapi.ts';
import { admits, may, PORTAL_ROLES, ROLES } from '../src/http/permissions.ts';
import { systemClock } from '../src/kernel/clock.ts';
import { ERROR_CODES } from '../src/kernel/error-codes.ts';
import { createLogger } from '../src/kernel/logger.ts';
import { createSecretBox } from '../src/kernel/secret-box.ts';
import { SETTINGS } from '../src/settings.ts';

const ROOT = new URL('../../', import.meta.url);

const document = await openApi();
const files: Record<string, string> = {
  'openapi.json': `${JSON.stringify(document, null, 2)}\n`,
  'docs/configuration.md': configuration(),
  'docs/errors.md': errors(),
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

Posthorn is configured by environment variables, and by a file that one of them may name. A variable that begins with
\`POSTHORN_\` and is not in this table stops the start, and so does a bad value, with one line that names it.

| variable | default | meaning |
|---|---|---|
${rows.join('\n')}

## The configuration file

\`POSTHORN_CONFIG_FILE\` names a JSON file with any of these settings, by their names in small letters without
\`POSTHORN_\`. Lists may be arrays, and settings may stand in groups, whose names mean nothing. So the block that
call-center.md prints under "Scaling Configuration" is a file as it is:

\`\`\`json
{
  "processing": {
    "max_concurrent_deliveries": 100,
    "batch_size": 50,
    "queue_check_interval": 5,
    "connection_pool_size": 20
  },
  "retry": {
    "max_queue_size": 10000,
    "dead_letter_threshold": 5,
    "cleanup_interval": 3600
  }
}
\`\`\`

A variable of the environment goes before the file. A name that is no setting, a bad value and a secret in the file stop
the start with one line that names them.

## A full queue

Without \`POSTHORN_MAX_QUEUE_SIZE\` a tenant may have any number of waiting deliveries: they lie in the database. With it,
events of a tenant that has so many are refused with 429, the code \`queue_full\` and \`Retry-After\`, until receivers have
taken some. What was accepted stays and is delivered; other tenants, retries, replays and Posthorn's own events go on. It
counts deliveries that wait for their turn, their time or a retry, and those in the hands of the process that is asked.
What waits in the database is counted every \`POSTHORN_QUEUE_CHECK_INTERVAL\` seconds, so in between a queue can grow
beyond the bound. What is held for a paused or disabled webhook does not count.
`;
}

function errors(): string {
  const rows = Object.entries(ERROR_CODES).map(
    ([code, { status, meaning }]) => `| ${status} | \`${code}\` | ${meaning} |`,
  );
  return `# Errors

Every error of the API is JSON of one shape, whatever the path. It holds no payload, no secret and nothing of the inside.

\`\`\`json
{
  "error": {
    "code": "validation_failed",
    "message": "retry_policy.max_attempts: must be at most 100",
    "details": { "fields": [{ "path": "retry_policy.max_attempts", "message": "must be at most 100" }] },
    "request_id": "req_9f1c6d3f0a5b4c7e8d2a1b3c4d5e6f70"
  }
}
\`\`\`

Decide by \`code\`: a code has one status and keeps its meaning, while a \`message\` is for people and may change.
\`details\` is \`{}\` where there is nothing to add. \`request_id\` is also in the header \`X-Request-Id\` and in the log. Where
another try makes sense, \`retry_after\` says from when (RFC 3339), and the header \`Retry-After\` after how many seconds.

A 4xx means that nothing was done. After a 5xx something may have been: a connection can be lost while it commits. With
the same \`event_id\` or \`Idempotency-Key\` the request can be sent again, and is done once.

| status | code | meaning |
|---|---|---|
${rows.join('\n')}

What goes wrong with a delivery is no error of the API: attempts name its class in \`error_class\`
([deliveries.md](deliveries.md)).
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
