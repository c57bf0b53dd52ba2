import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../src/testing/database.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Folder, makeFolder, queryDatabase } from './folder.ts';
import { ENV, type Server, startServer } from './server.ts';

let folder: Folder;
let database: TestDatabase;
let receiver: Receiver;
let server: Server;

beforeAll(async () => {
  folder = makeFolder();
  [database, receiver] = await Promise.all([createTestDatabase(), startReceiver()]);
  receiver.onRequest = ({ path, respond }) => respond(path === '/gone' ? 410 : path === '/bad' ? 500 : 200);
});
afterAll(async () => {
  await folder.remove();
  await receiver.stop();
  await database.drop();
});

async function start(): Promise<void> {
  server = await startServer({ cwd: folder.path, env: { ...ENV, DATABASE_URL: database.connectionString } });
}
const query = <Row extends object>(sql: string) => queryDatabase<Row>(database.connection, sql);

async function succeed(path: string, body: unknown = {}) {
  const answer = await server.call('POST', path, body);
  expect(answer.status, answer.text).toBeLessThan(300);
  return answer.body;
}
const webhook = (path: string, events: string[]) =>
  succeed('/api/v1/webhooks', { name: path, url: receiver.url + path, events, retry_policy: { max_attempts: 1 } });

const announced = () =>
  query<{ type: string; taken: boolean }>(
    `SELECT type, due_at > '-infinity' AS taken FROM announcements ORDER BY type`,
  );
const told = () =>
  query<{ external_id: string; status: string }>(
    `SELECT e.external_id, d.status FROM events e JOIN deliveries d ON d.event_id = e.id
     WHERE e.event_type IN ('webhook.disabled', 'webhook.recovered', 'delivery.dead')`,
  );

/** Every statement of this kind fails from now on. */
const refuse = (what: string) =>
  query(`
    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused by the test'; END $$;
    CREATE TRIGGER refuse ${what} FOR EACH ROW EXECUTE FUNCTION refuse()`);

test('what happened is told of once, however often and whenever the program is killed', async () => {
  await start();
  await webhook('/ops', ['webhook.*', 'delivery.dead']);
  const gone = await webhook('/gone', ['order.gone']);
  await webhook('/bad', ['order.dies']);

  // Killed with all of it done, and nothing told.
  await refuse('BEFORE INSERT ON event_keys');
  for (const event_type of ['order.gone', 'order.dies']) await succeed('/api/v1/events', { event_type, data: {} });
  await eventually(
    async () => (await server.call('GET', `/api/v1/webhooks/${gone.id}`)).body.status,
    (status) => status === 'disabled',
  );
  await succeed(`/api/v1/webhooks/${gone.id}/enable`);
  const all = ['delivery.dead', 'delivery.dead', 'webhook.disabled', 'webhook.recovered'];
  await eventually(announced, (rows) => rows.length === all.length);
  await server.end('SIGKILL');
  expect((await announced()).map(({ type }) => type)).toEqual(all);

  // Killed as it tries.
  await query(`UPDATE announcements SET due_at = '-infinity'`);
  await start();
  await eventually(announced, (rows) => rows.every(({ taken }) => taken));
  await server.end('SIGKILL');
  expect(await told()).toEqual([]);

  // Killed when it is told, and that is not on record.
  await query('DROP TRIGGER refuse ON event_keys');
  await refuse('BEFORE DELETE ON announcements');
  await query(`UPDATE announcements SET due_at = '-infinity'`);
  await start();
  await eventually(told, (rows) => rows.length === all.length && rows.every(({ status }) => status === 'delivered'));
  await server.end('SIGKILL');
  expect(await announced()).toHaveLength(all.length);

  await query('DROP TRIGGER refuse ON announcements');
  await query(`UPDATE announcements SET due_at = '-infinity'`);
  await start();
  await eventually(announced, (rows) => rows.length === 0);
  expect((await told()).map(({ external_id }) => external_id.split(':')[0]).sort()).toEqual(all);
  expect(receiver.requests.filter(({ path }) => path === '/ops')).toHaveLength(all.length);
  await server.end('SIGTERM');
}, 120_000);
