import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { expect, inject, test } from 'vitest';
import { startPosthorn } from '../../src/app.ts';
import { readConfig } from '../../src/config.ts';
import { createLogger } from '../../src/kernel/logger.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { startReceiver } from '../../src/testing/receiver.ts';

const databaseOf = ({ database }: TestPosthorn) =>
  new URL(database.connectionString.replace(/^postgresql:\/\/[^/]*/, 'x://x')).pathname.slice(1);

/** The nodes, and whether each was heard of in the last three seconds. */
async function nodesOf({ database }: TestPosthorn): Promise<{ id: number; heard: boolean }[]> {
  const client = new pg.Client(database.connection);
  await client.connect();
  try {
    const heard = 'heartbeat_at > now() - make_interval(secs => 3)';
    return (await client.query(`SELECT id, ${heard} AS heard FROM nodes ORDER BY id`)).rows;
  } finally {
    await client.end();
  }
}

/** Closes the database to everyone and ends the sessions on it, or opens it again. */
async function setReachable(database: string, reachable: boolean): Promise<void> {
  const admin = new pg.Client({ connectionString: inject('postgresUrl') });
  await admin.connect();
  await admin.query(`ALTER DATABASE ${database} ALLOW_CONNECTIONS ${reachable}`);
  if (!reachable) {
    await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [database]);
  }
  await admin.end();
}

test('nodes that were cut off together take nothing from each other', async () => {
  const first = await startTestPosthorn();
  const second = await startPosthorn(
    {
      ...readConfig('dev', {}),
      port: 0,
      databaseUrl: first.database.connectionString,
      operatorKey: OPERATOR_KEY,
      encryptionKey: Buffer.alloc(32, 7),
      drainSeconds: 5,
    },
    { logger: createLogger('silent') },
  );
  const name = databaseOf(first);
  try {
    const before = (await nodesOf(first)).map(({ id }) => id);
    expect(before).toHaveLength(2);
    await setReachable(name, false);
    // Longer than a node may be silent.
    await pause(11_000);
    await setReachable(name, true);
    const after = await eventually(
      () => nodesOf(first),
      (rows) => rows.length > 0 && rows.every(({ heard }) => heard),
      20_000,
    );
    expect(after.map(({ id }) => id)).toEqual(before);
  } finally {
    await setReachable(name, true);
    await second.stop();
    await first.stop();
  }
}, 90_000);

test('a publish whose commit is cut off says that nobody knows, and is accepted once when it is sent again', async () => {
  const posthorn = await startTestPosthorn();
  const client = new pg.Client(posthorn.database.connection);
  await client.connect();
  try {
    await client.query(`
      CREATE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock(4711); RETURN NULL;
      END $$;
      CREATE CONSTRAINT TRIGGER hold_commit AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION hold_commit();
      SELECT pg_advisory_lock(4711)`);
    const event = { event_type: 'order.paid', data: {}, event_id: 'cut-off' };
    const answer = posthorn.call('POST', '/api/v1/events', event);
    const cut = () =>
      client.query(
        `SELECT pg_terminate_backend(pid) FROM pg_locks
         WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      );
    await eventually(cut, ({ rowCount }) => rowCount === 1);
    const { status, body } = await answer;
    expect([status, body.error.code]).toEqual([503, 'unavailable']);
    expect(body.error.message).toMatch(/is not known/);
    await client.query('SELECT pg_advisory_unlock(4711)');
    const again = await eventually(
      () => posthorn.call('POST', '/api/v1/events', event),
      (found) => found.status === 202,
    );
    expect(again.body.event_id).toBe('cut-off');
    expect((await posthorn.call('GET', '/api/v1/events')).body.data).toHaveLength(1);
  } finally {
    await client.end();
    await posthorn.stop();
  }
}, 60_000);

test('while the database is away publishes get 503; after it nothing accepted is lost, and nothing is sent twice', async () => {
  const posthorn = await startTestPosthorn();
  const receiver = await startReceiver();
  const database = databaseOf(posthorn);
  try {
    await posthorn.call('POST', '/api/v1/webhooks', { name: 'Outage', url: receiver.url, events: ['*'] });
    const accepted: string[] = [];
    const publish = async (n: number) => {
      const answer = await posthorn.call('POST', '/api/v1/events', { event_type: 'order.paid', data: { n } });
      if (answer.status === 202) accepted.push(answer.body.id);
      return answer;
    };
    // One request is under way when the database goes, and is answered while it is away.
    const held: (() => void)[] = [];
    receiver.onRequest = (request) => held.push(() => request.respond(200));
    await publish(1);
    await receiver.received(1);

    await setReachable(database, false);
    const refused = await eventually(
      () => publish(2),
      ({ status }) => status === 503,
    );
    expect(refused.body.error.code).toBe('unavailable');
    expect(refused.headers.get('retry-after')).toBe('2');
    // Of this environment nothing was read yet, neither its event types nor its webhooks.
    const unread = { event_type: 'order.paid', data: {} };
    const elsewhere = await posthorn.call('POST', '/api/v1/events', unread, { 'x-environment': 'staging' });
    expect(elsewhere).toMatchObject({ status: 503, body: { error: { code: 'unavailable' } } });
    expect((await posthorn.call('GET', '/health/ready')).status).toBe(503);
    expect((await posthorn.call('GET', '/health/live')).status).toBe(200);
    receiver.onRequest = (request) => request.respond(200);
    for (const answer of held) answer();

    await setReachable(database, true);
    await eventually(
      () => publish(3),
      ({ status }) => status === 202,
    );
    for (let n = 4; n < 30; n++) expect((await publish(n)).status).toBe(202);
    const rows = await eventually(
      async () => (await posthorn.call('GET', '/api/v1/deliveries?limit=250')).body.data,
      (deliveries) => deliveries.every(({ status }: { status: string }) => status === 'delivered'),
      40_000,
    );
    const ids = receiver.requests.map(({ headers }) => headers['webhook-id']);
    expect(ids.filter((id) => accepted.includes(String(id))).sort()).toEqual([...accepted].sort());
    expect(new Set(ids).size).toBe(ids.length);
    expect(rows).toHaveLength(ids.length);
    expect((await posthorn.call('GET', '/health/ready')).status).toBe(200);
  } finally {
    await setReachable(database, true);
    await posthorn.stop();
    await receiver.stop();
  }
}, 90_000);
