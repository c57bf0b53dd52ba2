import { afterAll, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { startReceiver } from '../../src/testing/receiver.ts';
import { makeFolder } from './folder.ts';
import { ENV, startServer } from './server.ts';

const folder = makeFolder();

afterAll(() => folder.remove());

const PERSON = 'eve.adams-4711@example.com';
const EVENTS = 1_500;
const OTHERS = 500;

/** Tables with a row in which the text occurs anywhere, also as bytes; and columns of which PostgreSQL keeps it. */
async function placesWith(text: string): Promise<string[]> {
  const tables = await folder.query<{ name: string }>(`SELECT relname AS name FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND NOT relispartition`);
  const hex = Buffer.from(text).toString('hex');
  const found: string[] = [];
  for (const name of [...tables.map((table) => table.name), 'pg_stats']) {
    const rows = await folder.query(`SELECT FROM ${name} t
      WHERE position('${text}' IN t::text) > 0 OR position('${hex}' IN t::text) > 0 LIMIT 1`);
    if (rows.length > 0) found.push(name);
  }
  return found.sort();
}

test('an erasure whose program is killed in the middle goes on: each event is erased and counted once, nothing is left', async () => {
  let server = await startServer({ cwd: folder.path, env: ENV });
  const receiver = await startReceiver();
  // It repeats the person to whatever is about them.
  receiver.onRequest = (request) => request.respond(200, {}, request.body.includes(PERSON) ? PERSON : '');
  const hook = { name: 'W', url: receiver.url, events: ['*'] };
  expect((await server.call('POST', '/api/v1/webhooks', hook)).status).toBe(201);
  const event = (who: string, n: number) => ({
    event_type: 'order.paid',
    data: { n, customer: { email: who } },
    event_id: `${n}-${who}`,
    metadata: { who },
  });
  const publish = async (who: string, from: number, to: number) => {
    for (let at = from; at < to; at += 250) {
      const events = Array.from({ length: Math.min(250, to - at) }, (_, n) => event(who, at + n));
      expect((await server.call('POST', '/api/v1/events/batch', { events })).status).toBe(202);
    }
  };
  await publish('adam@example.com', 0, OTHERS);
  await publish(PERSON, OTHERS, OTHERS + EVENTS);
  const delivered = `SELECT FROM deliveries WHERE status = 'delivered'`;
  await eventually(
    () => folder.query(delivered),
    (rows) => rows.length === OTHERS + EVENTS,
    60_000,
  );
  await folder.query('ANALYZE');
  expect(await placesWith(PERSON)).toEqual(['attempts', 'event_keys', 'events', 'pg_stats']);

  // It cannot come to its end before it is killed.
  const release = await folder.lock('SELECT FROM events WHERE id = (SELECT max(id::text)::uuid FROM events)');
  const asked = await server.call('POST', '/api/v1/erasures', { path: 'customer.email', value: PERSON });
  expect(asked.status).toBe(202);
  const erased = async () =>
    Number((await folder.query<{ erased: string }>('SELECT erased_events AS erased FROM erasure_jobs'))[0]?.erased);
  await eventually(erased, (count) => count > 0);
  await server.end('SIGKILL');
  await release();

  server = await startServer({ cwd: folder.path, env: ENV });
  const seen = (await server.call('GET', `/api/v1/erasures/${asked.body.id}`)).body;
  expect(seen.status, 'the program was killed too late for this test').toBe('running');
  const job = await eventually(
    async () => (await server.call('GET', `/api/v1/erasures/${asked.body.id}`)).body,
    ({ status }) => status !== 'running',
    60_000,
  );
  const counts = {
    looked_at_events: EVENTS + OTHERS,
    erased_events: EVENTS,
    erased_attempts: EVENTS,
    discarded_deliveries: 0,
    removed_dead_letters: 0,
    erased_samples: 0,
    removed_answers: 0,
  };
  expect(job).toMatchObject({ status: 'completed', ...counts });
  const { data } = (await server.call('GET', '/api/v1/audit?resource_type=erasure')).body;
  expect(data.map(({ action }: { action: string }) => action)).toEqual(['erasure.completed', 'erasure.created']);
  expect(data[0].details).toMatchObject(counts);
  expect(await placesWith(PERSON)).toEqual([]);
  expect(await placesWith('eve.adams-4711')).toEqual([]);
  const left = await folder.query('SELECT FROM events WHERE data IS NOT NULL');
  expect(left).toHaveLength(OTHERS);
  await server.end('SIGTERM');
  await receiver.stop();
}, 150_000);
