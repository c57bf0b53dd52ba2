import pg from 'pg';
import type { Config } from '../../src/config.ts';
import { type Clock, systemClock } from '../../src/kernel/clock.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';

/** One of several programs on the same database. */
export interface TestNode extends TestPosthorn {
  /** From here on it does nothing by itself, as a process that hangs: no heartbeat, no claim, no new request. */
  freeze(): void;
  /** It goes on, and finds out how long it was away. */
  thaw(): void;
}

/** Nodes that share one database, and what tests ask of them. */
export interface Cluster {
  nodes: TestNode[];
  /** The first node. */
  first: TestNode;
  join(changes?: Partial<Config>): Promise<TestNode>;
  /** The node's number, as in `nodes`, since its last start. */
  numberOf(node: TestNode): number;
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  query(sql: string, values?: unknown[]): Promise<any[]>;
  /** Creates a webhook for all events; returns it as shown. */
  // biome-ignore lint/suspicious/noExplicitAny: as above
  webhook(fields: object): Promise<any>;
  /** All that there are, fifty at most. */
  deleteWebhooks(): Promise<void>;
  /** Publishes an event through a node (the first) and returns its id. */
  publish(fields?: object, node?: TestNode): Promise<string>;
  /** Publishes events in one request, in this order. */
  publishAll(events: object[], node?: TestNode): Promise<void>;
  /** How many deliveries have which status. */
  statuses(): Promise<Record<string, number>>;
  /** Waits until all deliveries have this status. */
  allBecome(status: string, withinMs?: number): Promise<void>;
  /** Waits until the one delivery of an event has this status, and returns it with its attempts. */
  // biome-ignore lint/suspicious/noExplicitAny: as above
  becomes(eventId: string, status: string): Promise<any>;
  /** Makes the other nodes find these silent for too long, and waits until they have taken over from them. */
  declareSilent(...numbers: number[]): Promise<void>;
  stop(): Promise<void>;
}

export async function startCluster(size: number, changes: Partial<Config> = {}): Promise<Cluster> {
  const numbers = new Map<TestNode, number>();
  const [first, ...others] = [await startNode(changes)];
  const nodes = [first, ...others];
  const sql = new pg.Client(first.database.connection);
  await sql.connect();
  const query = async (text: string, values: unknown[] = []) => (await sql.query(text, values)).rows;
  const remember = async (node: TestNode) => {
    numbers.set(node, (await query('SELECT max(id) AS id FROM nodes'))[0].id);
  };
  const watch = async (node: TestNode) => {
    const { restart } = node;
    node.restart = async () => {
      await restart();
      await remember(node);
    };
    await remember(node);
  };
  await watch(first);

  const cluster: Cluster = {
    nodes,
    first,
    async join(more = {}) {
      const node = await startNode({ ...changes, ...more, databaseUrl: first.database.connectionString });
      nodes.push(node);
      await watch(node);
      return node;
    },
    numberOf: (node) => numbers.get(node) ?? 0,
    query,
    async webhook(fields) {
      const answer = await first.call('POST', '/api/v1/webhooks', { name: 'Test', events: ['*'], ...fields });
      if (answer.status !== 201) throw new Error(`The webhook was refused: ${answer.text}`);
      return answer.body;
    },
    async deleteWebhooks() {
      for (const { id } of (await first.call('GET', '/api/v1/webhooks')).body.data) {
        await first.call('DELETE', `/api/v1/webhooks/${id}`);
      }
    },
    async publish(fields = {}, node = first) {
      const answer = await node.call('POST', '/api/v1/events', { event_type: 'order.paid', data: {}, ...fields });
      if (answer.status !== 202) throw new Error(`The event was refused: ${answer.text}`);
      return answer.body.id;
    },
    async publishAll(events, node = first) {
      for (let at = 0; at < events.length; at += 1_000) {
        const part = events.slice(at, at + 1_000).map((event) => ({ event_type: 'order.paid', data: {}, ...event }));
        const answer = await node.call('POST', '/api/v1/events/batch', { events: part });
        if (answer.status !== 202) throw new Error(`The events were refused: ${answer.text}`);
      }
    },
    async statuses() {
      const rows = await query('SELECT status, count(*)::int AS count FROM deliveries GROUP BY status');
      return Object.fromEntries(rows.map(({ status, count }) => [status, count]));
    },
    async allBecome(status, withinMs) {
      await eventually(
        () => cluster.statuses(),
        (counts) => Object.keys(counts).every((name) => name === status) && Object.keys(counts).length === 1,
        withinMs,
      );
    },
    becomes: (eventId, status) =>
      eventually(
        async () => {
          const [found] = (await first.call('GET', `/api/v1/deliveries?event_id=${eventId}`)).body.data;
          return (await first.call('GET', `/api/v1/deliveries/${found.id}`)).body;
        },
        (delivery) => delivery.status === status,
      ),
    async declareSilent(...silent) {
      // A heartbeat that was under way may come after the first of these.
      await eventually(
        () =>
          query("UPDATE nodes SET heartbeat_at = now() - '1 minute'::interval WHERE id = ANY ($1) RETURNING id", [
            silent,
          ]),
        (left) => left.length === 0,
      );
    },
    async stop() {
      await sql.end();
      for (const node of nodes) node.thaw();
      for (const node of nodes.slice(1)) await node.stop();
      await first.stop();
    },
  };
  while (nodes.length < size) await cluster.join();
  return cluster;
}

async function startNode(changes: Partial<Config>): Promise<TestNode> {
  const clock = new FreezableClock();
  const node = await startTestPosthorn({ drainSeconds: 1, ...changes }, clock);
  return Object.assign(node, { freeze: () => clock.freeze(), thaw: () => clock.thaw() });
}

/** The system's clock, whose timers a test can hold up. */
class FreezableClock implements Clock {
  #frozen = false;
  #skippedMs = 0;
  readonly #held: (() => void)[] = [];

  now(): number {
    return systemClock.now();
  }

  monotonicMs(): number {
    return systemClock.monotonicMs() + this.#skippedMs;
  }

  after(delayMs: number, task: () => void): () => void {
    let cancelled = false;
    const cancel = systemClock.after(delayMs, () => {
      if (this.#frozen) this.#held.push(() => cancelled || task());
      else task();
    });
    return () => {
      cancelled = true;
      cancel();
    };
  }

  freeze(): void {
    this.#frozen = true;
    this.#skippedMs += AWAY_MS;
  }

  thaw(): void {
    this.#frozen = false;
    for (const task of this.#held.splice(0)) task();
  }
}

/** Longer than a node may be silent. */
const AWAY_MS = 60_000;
