import type pg from 'pg';
import { bySystem } from '../../src/audit/auditor.ts';
import { createEventTypeDirectory } from '../../src/catalog/directory.ts';
import type { Change } from '../../src/db/notify.ts';
import type { Database } from '../../src/db/pool.ts';
import type { Command } from '../../src/delivery/transitions.ts';
import type { Scope } from '../../src/http/caller.ts';
import type { IdSource } from '../../src/kernel/ids.ts';
import { ManualClock } from '../../src/testing/manual-clock.ts';
import { testSecretBox } from '../../src/testing/secret-box.ts';
import type { Batching } from '../../src/webhooks/batching.ts';
import { createWebhook } from '../../src/webhooks/commands.ts';
import type { WebhookChange } from '../../src/webhooks/schema.ts';
import type { WebhookStatus } from '../../src/webhooks/settings.ts';
import { setDatabaseTime } from './database-time.ts';
import type { ModelDatabase } from './model-database.ts';
import { ModelNode, type NodeSurroundings } from './model-node.ts';
import { SendChecks } from './send-checks.ts';
import { type Answer, Transport } from './transport.ts';

/** What a webhook of the model keeps to; null: no such limit. */
export interface Limits {
  maxConcurrency: number | null;
  ratePerMinute: number | null;
  ordering: 'skip' | 'park' | null;
  breaker: boolean;
  batching: Batching | null;
  /** A template shapes its events. */
  shapes: boolean;
  /** It takes only the events that say so. */
  filters: boolean;
}

export interface WebhookSetup extends Limits {
  failover: boolean;
  maxAttempts: number;
  priority: number;
  timeoutSeconds: number;
  receiver: Answer | 'hold';
}

/** How a run begins. */
export interface Setup {
  nodes: number;
  webhooks: WebhookSetup[];
  inFlightMax: number;
  queuedMax: number;
}

/** What the model knows of a webhook. */
export interface ModelWebhook extends Limits {
  id: string;
  status: WebhookStatus | 'deleted';
  statusSinceMs: number;
  /** What its receiver does at once; `hold`: requests wait for a command. */
  receiver: Answer | 'hold';
  /** When the limits in force began to hold. */
  limitsSinceMs: number;
  /** Its circuit was open, and not yet to be tried, when the rows were looked at last. */
  shut: boolean;
  /** It has batching, or had it. */
  hasBatched: boolean;
  /** When requests to it began, all of them. */
  startsMs: number[];
}

/** An event that was accepted. */
export interface AcceptedEvent {
  /** TypeID. */
  id: string;
  deliveries: number;
}

const START_MS = Date.parse('2026-01-15T00:30:00.000Z');

/** The engine under test: nodes on one database, a tenant with webhooks, receivers, and a clock that a run moves. */
export class System {
  readonly clock = new ManualClock(START_MS);
  readonly transport: Transport;
  readonly scope: Scope;
  readonly webhooks: ModelWebhook[] = [];
  readonly accepted: AcceptedEvent[] = [];
  /** Of events whose data says that they are poison no request can be built. */
  poisonWorks = true;
  /** Templates fail for the events that say so. */
  templatesFail = true;
  /** Nothing has happened that may make a request be sent twice. */
  quiet = true;
  /** Deliveries that a person set going again after their end. */
  readonly reopened = new Set<string>();
  /** Deliveries that replays made: their events were accepted without them. */
  readonly replays = new Set<string>();
  /** What people asked for since the last look at the rows. */
  readonly lastWishes = new Set<Command>();
  /** Webhooks were deleted, payloads erased, or templates cancel: deliveries may be discarded from now on. */
  discards = false;
  /** Deliveries that were cancelled while a node was cut off: it did not hear of it, and may send what it holds. */
  readonly unheard = new Set<string>();
  /** What was found wrong. */
  readonly violations: string[] = [];
  readonly newId: IdSource;
  nodes: ModelNode[] = [];
  readonly #surroundings: NodeSurroundings;
  readonly #database: ModelDatabase;
  readonly #checks: SendChecks;
  #noticed = false;

  private constructor(database: ModelDatabase, setup: Setup) {
    this.#database = database;
    this.newId = countingIds(this.clock);
    this.scope = { tenantId: database.nextTenantId(), environmentId: this.newId() };
    this.#checks = new SendChecks(this, database.pool);
    this.transport = new Transport((request) => this.#checks.add(request));
    const db = database.dbFor({ clock: this.clock, onNotice: () => this.#notice() });
    this.#surroundings = {
      clock: this.clock,
      newId: this.newId,
      db,
      enginePool: database.enginePool,
      activity: database.activity,
      transport: this.transport,
      eventTypes: createEventTypeDirectory({ db, clock: this.clock }),
      box: testSecretBox(),
      isPoison: (body) => this.poisonWorks && body.includes(POISON),
      inFlightMax: setup.inFlightMax,
      queuedMax: setup.queuedMax,
      onNotice: () => this.#notice(),
      templatesFail: () => this.templatesFail,
      onFault: () => {
        this.quiet = false;
      },
    };
  }

  static async begin(database: ModelDatabase, setup: Setup): Promise<System> {
    const system = new System(database, setup);
    database.onChange = (change) => system.#tell(change);
    await setDatabaseTime(database.pool, START_MS);
    const { tenantId, environmentId } = system.scope;
    await database.pool.query({
      name: 'make-tenant',
      text: `WITH t AS (
          INSERT INTO tenants (id, slug, name, settings, created_at, updated_at)
          VALUES ($1::uuid, $1::uuid::text, 'Model', '{}', now(), now())
          RETURNING id
        )
        INSERT INTO environments (tenant_id, id, name, preset, created_at)
        SELECT id, $2::uuid, 'production', 'standard', now() FROM t`,
      values: [tenantId, environmentId],
    });
    for (let n = 0; n < setup.nodes; n++) await system.join();
    for (const webhook of setup.webhooks) await system.#addWebhook(webhook);
    await system.settle();
    return system;
  }

  get tenantId(): string {
    return this.scope.tenantId;
  }

  get now(): Date {
    return new Date(this.clock.now());
  }

  get pool(): pg.Pool {
    return this.#database.pool;
  }

  get db(): Database {
    return this.#surroundings.db;
  }

  get inFlightMax(): number {
    return this.#surroundings.inFlightMax;
  }

  get queuedMax(): number {
    return this.#surroundings.queuedMax;
  }

  /** Nodes that nothing keeps from the database. */
  get sound(): ModelNode[] {
    return this.nodes.filter(({ wire }) => !wire.stalled);
  }

  wishes(): Command[] {
    return this.discards ? [...this.lastWishes, 'discard'] : [...this.lastWishes];
  }

  violated(text: string): void {
    this.violations.push(`${text} (at +${this.clock.monotonicMs()} ms)`);
  }

  async join(): Promise<ModelNode> {
    const node = new ModelNode(this.#surroundings);
    await node.engine.start();
    this.nodes.push(node);
    return node;
  }

  crash(node: ModelNode): void {
    node.crash();
    this.transport.forget(node);
    this.nodes = this.nodes.filter((each) => each !== node);
  }

  /** Stops a node as a signal does. */
  async leave(node: ModelNode, drainMs: number): Promise<void> {
    let stopped = false;
    void node.engine.stop(drainMs).then(() => {
      stopped = true;
    });
    for (let steps = 0; ; steps++) {
      await this.settle();
      if (stopped) break;
      if (steps > LEAVE_STEPS_MAX) {
        this.violated('a node does not stop');
        break;
      }
      await this.#moveTo(this.clock.now() + 250);
    }
    this.crash(node);
  }

  resume(node: ModelNode): void {
    if (!node.wire.stalled) return;
    node.wire.resume();
    // Its connection for notices was lost, and is made anew.
    node.forgetEverything();
  }

  /** Lets time pass, at most `grainMs` between two looks at what it brings. */
  async advance(ms: number, grainMs: number): Promise<void> {
    const endMs = this.clock.now() + ms;
    while (this.clock.now() < endMs) {
      const next = this.clock.nextAtMs ?? endMs;
      await this.#moveTo(Math.min(endMs, Math.max(next, this.clock.now() + grainMs)));
    }
  }

  /** A long time passes in which nothing happens but heartbeats. */
  async leap(ms: number): Promise<void> {
    const toMs = this.clock.now() + ms;
    await setDatabaseTime(this.pool, toMs);
    await this.pool.query({
      name: 'keep-alive',
      text: 'UPDATE nodes SET heartbeat_at = now() WHERE id = ANY ($1)',
      values: [this.sound.map(({ engine }) => engine.nodeId)],
    });
    await this.#ring(toMs);
  }

  /** Waits until nothing happens any more without time passing. */
  async settle(): Promise<void> {
    for (;;) {
      await this.#database.activity.whenIdle();
      if (this.#checks.pending) {
        await this.#checks.done();
        continue;
      }
      if (!this.#noticed) return;
      this.#noticed = false;
      await this.#database.deliverNotices();
    }
  }

  /** Until the rows of all that was sent have been looked at. An answer may change them, and is given after that. */
  async looked(): Promise<void> {
    while (this.#checks.pending) await this.#checks.done();
  }

  /** Until nothing has happened for many turns of the event loop. */
  async rest(): Promise<void> {
    for (let times = 0; times < 20; times++) await this.#database.activity.whenIdle();
  }

  /** Ends the run: every process is gone. */
  async end(): Promise<void> {
    for (const node of this.nodes) this.crash(node);
    await this.#database.activity.whenIdle();
    await this.#checks.done();
    // The next run begins with node 1, and meets no circuit of this one.
    await this.pool.query(`DELETE FROM nodes; DELETE FROM webhooks; SELECT setval('nodes_id_seq', 1, false)`);
  }

  #notice(): void {
    this.#noticed = true;
  }

  #tell(change: Change): void {
    for (const node of this.sound) node.applyChange(change);
  }

  async #moveTo(timeMs: number): Promise<void> {
    const toMs = Math.ceil(timeMs);
    await setDatabaseTime(this.pool, toMs);
    await this.#ring(toMs);
  }

  async #ring(toMs: number): Promise<void> {
    this.clock.advance(toMs - this.clock.now());
    await this.settle();
    if (this.transport.timeOut(toMs)) await this.settle();
  }

  async #addWebhook(setup: WebhookSetup): Promise<void> {
    const [node] = this.nodes;
    if (node === undefined) throw new Error('A run begins with a node.');
    const place = this.webhooks.length;
    const { id } = await createWebhook(node.store, bySystem(this.scope), {
      name: `w${place}`,
      url: `http://w${place}.example/`,
      events: place === 0 ? ['*'] : ['a'],
      timeout_seconds: setup.timeoutSeconds,
      retry_policy: { max_attempts: setup.maxAttempts, initial_delay_seconds: 1, jitter: 0 },
      priority: setup.priority,
      ...(setup.failover && { failover_url: `http://f${place}.example/` }),
      ...limitsBody(setup, place),
    });
    this.discards ||= setup.shapes;
    const hasBatched = setup.batching !== null;
    const limitsSinceMs = this.clock.now();
    this.webhooks.push({
      ...setup,
      id,
      status: 'active',
      statusSinceMs: limitsSinceMs,
      limitsSinceMs,
      shut: false,
      hasBatched,
      startsMs: [],
    });
  }
}

/** Stands in the data of an event of which no request can be built. */
const POISON = '"poison":true';

/** The limits as the API takes them. */
export function limitsBody(limits: Limits, place: number): WebhookChange {
  const { maxConcurrency, ratePerMinute, ordering, breaker, batching, shapes, filters } = limits;
  return {
    max_concurrency: maxConcurrency,
    rate_limit_per_minute: ratePerMinute,
    ordering: ordering === null ? null : { enabled: true, on_dead: ordering },
    circuit_breaker: breaker
      ? { enabled: true, minimum_requests: 2, failure_rate: 0.5, window_seconds: 30, open_seconds: 5 }
      : { enabled: false },
    transformation: shapes ? { template: { webhook: place } } : null,
    filters: filters ? [{ field_path: 'data.wanted', operator: 'equals', value: true }] : [],
    batching:
      batching === null
        ? null
        : {
            enabled: true,
            max_events: batching.maxEvents,
            max_wait_ms: batching.maxWaitMs,
            max_bytes: batching.maxBytes,
          },
  };
}

const LEAVE_STEPS_MAX = 100;

/** UUIDv7s of the run's clock that count: a run that is repeated makes the same ones. */
function countingIds(clock: ManualClock): IdSource {
  let made = 0;
  return () => {
    made += 1;
    const hex = clock.now().toString(16).padStart(12, '0');
    return `${hex.slice(0, 8)}-${hex.slice(8)}-7${(made & 0xfff).toString(16).padStart(3, '0')}-8000-${made.toString(16).padStart(12, '0')}`;
  };
}
