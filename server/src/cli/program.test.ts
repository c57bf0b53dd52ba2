import { expect, test } from 'vitest';
import { runCli } from './program.ts';
import { scriptedTerminal } from './scripted-terminal.ts';

async function run(
  args: string[],
  options: Parameters<typeof scriptedTerminal>[0] = {},
): Promise<{ code: number; output: string; errors: string }> {
  const terminal = scriptedTerminal(options);
  const code = await runCli(args, terminal);
  return { code, output: terminal.output(), errors: terminal.errors() };
}

test('without a command the help is printed, and it is an error', async () => {
  const { code, errors } = await run([]);
  expect(code).toBe(1);
  expect(errors).toContain('Usage: posthorn');
});

test.each([
  'dev',
  'serve',
  'migrate',
  'key',
  'key create',
  'key list',
  'key revoke',
  'key operator',
  'publish',
  'trigger',
  'simulate',
  'receive',
  'doctor',
  'demo',
])('posthorn %s --help prints an example and ends with 0', async (command) => {
  const { code, output, errors } = await run([...command.split(' '), '--help']);
  expect(code).toBe(0);
  expect(errors).toBe('');
  expect(output).toContain(`Usage: posthorn ${command}`);
  expect(output).toMatch(/Examples?:\n {2}\$ /);
  expect(output).toContain(`posthorn ${command}`);
});

test('--version prints the version and nothing else', async () => {
  const { code, output } = await run(['--version']);
  expect(code).toBe(0);
  expect(output).toMatch(/^\d+\.\d+\.\d+\S*\n$/);
});

test.each([
  [['recieve'], "error: unknown command 'recieve'\n(Did you mean receive?)"],
  [['publish'], "error: missing required argument 'event_type'"],
  [['publish', 'a.b', 'c'], 'error: too many arguments'],
  [['receive', '--prot', '1'], "error: unknown option '--prot'\n(Did you mean --port?)"],
  [['receive', '--port', '0'], 'It must be a whole number from 1 to 65535.'],
  [['receive', '--port', '1e3'], 'It must be a whole number from 1 to 65535.'],
  [['receive', '--status', '99'], 'It must be a whole number from 200 to 599.'],
  [['receive', '--path', 'hooks'], 'posthorn: --path must start with "/".'],
  [['key', 'create', '--role', 'viewer'], "error: required option '--name <name>' not specified"],
  [['key', 'create', '--name', 'x', '--role', 'operator'], 'Allowed choices are owner, admin'],
  [['key', 'rotate'], "error: unknown command 'rotate'"],
  [['simulate'], "error: required option '--preset <name>' not specified"],
  [['simulate', '--preset', 'standard'], 'posthorn: --preset must be one of isp-framework, isp-communications'],
  [['simulate', '--preset', 'call-center', '--start', 'monday'], 'It must be a time such as 2026-01-05T08:00:00Z.'],
  [['simulate', '--preset', 'call-center', '--rate', '501'], 'It must be a whole number from 1 to 500.'],
  [['demo', '--rate', 'fast'], 'It must be a whole number from'],
])('posthorn %j ends with 1 and says what is wrong', async (args, message) => {
  const { code, output, errors } = await run(args);
  expect(code).toBe(1);
  expect(output).toBe('');
  expect(errors).toContain(message);
});

test.each(['dev', 'serve', 'migrate', 'publish a.b --data 1', 'key list', 'key operator'])(
  'an unknown variable stops "posthorn %s" with one line',
  async (command) => {
    const { code, errors } = await run(command.split(' '), { env: { POSTHORN_PROT: '1' } });
    expect(code).toBe(1);
    expect(errors).toMatch(/^posthorn: POSTHORN_PROT is not a setting of Posthorn; .+\n$/);
  },
);

test('serve without an encryption key says what to set', async () => {
  const { code, errors } = await run(['serve']);
  expect(code).toBe(1);
  expect(errors).toMatch(/^posthorn: POSTHORN_ENCRYPTION_KEY is needed by `posthorn serve`: .+\n$/);
});

test('publish takes its data from one place only', async () => {
  const env = { POSTHORN_OPERATOR_KEY: 'a-key-of-sixteen-characters' };
  const both = await run(['publish', 'a.b', '--data', '1', '--file', 'x'], { env });
  expect(both.errors).toBe('posthorn: Give the data with --data or with --file, not both.\n');
  const none = await run(['publish', 'a.b'], { env, inputIsTerminal: true });
  expect(none.errors).toBe('posthorn: Give the data with --data or --file, or pipe it in.\n');
  const empty = await run(['publish', 'a.b'], { env, input: '' });
  expect(empty.errors).toContain('posthorn: The data is empty');
  const missing = await run(['publish', 'a.b', '--file', '/nonexistent'], { env });
  expect(missing.errors).toBe('posthorn: /nonexistent cannot be read (ENOENT).\n');
});

test('key operator says where the key would be', async () => {
  const { code, errors } = await run(['key', 'operator'], { env: { POSTHORN_DATA_DIR: '/nonexistent' } });
  expect(code).toBe(1);
  expect(errors).toMatch(/^posthorn: \/nonexistent\/operator\.key is missing: .+\n$/);
});
