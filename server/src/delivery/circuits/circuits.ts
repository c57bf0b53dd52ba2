import type pg from 'pg';
import { changeText } from '../../db/notify.ts';
import { errorCode } from '../../db/pool.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/logger.ts';
import type { CircuitBreaker } from '../../webhooks/circuit-breaker.ts';
import type { LaneKey } from '../lanes/lane.ts';
import { CircuitWindow } from './circuit-window.ts';
import { CLOSE_CIRCUIT, OPEN_CIRCUIT, READ_CIRCUITS, RETURN_PROBE, TAKE_PROBE } from './sql.ts';

/** A circuit that is not closed. */
export interface Circuit extends LaneKey {
  /** `half_open`: a request of some node is trying the webhook. */
  state: 'open' | 'half_open';
  /** When a node may take the right to try it, on the monotonic clock. */
  reopensAtMs: number;
  /** The same as its row says it; undefined until it was read. */
  reopensAt: string | undefined;
}

export interface CircuitsOptions {
  pool: pg.Pool;
  clock: Clock;
  logger: Logger;
  /** A circuit opened, closed, or may be probed at another time; also when another node did it. */
  onChange: (lane: LaneKey) => void;
}

/** What an attempt showed, for the circuit of its webhook. */
export interface CircuitSign {
  lane: LaneKey;
  breaker: CircuitBreaker;
  failed: boolean;
  /** It was the one request that tries whether the webhook is back. */
  probe: boolean;
}

const PRUNE_MS = 60_000;

/**
 * The circuit breakers of all webhooks. Each node counts what it sees itself, and any of them may open a circuit; an
 * open one is a row, so that it holds for every node and over restarts. When its time has come one node takes the right
 * to probe, sends one request, and closes the circuit or keeps it open by what came of it.
 *
 * Closed circuits have no row, and webhooks that do nothing have no window.
 */
export class Circuits {
  readonly #options: CircuitsOptions;
  readonly #circuits = new Map<string, Circuit>();
  readonly #windows = new Map<string, { window: CircuitWindow; windowMs: number }>();
  #readings: Promise<void> = Promise.resolve();
  #prunedAtMs = 0;

  constructor(options: CircuitsOptions) {
    this.#options = options;
  }

  /** undefined: closed. */
  find(webhookId: string): Circuit | undefined {
    return this.#circuits.size === 0 ? undefined : this.#circuits.get(webhookId);
  }

  /** Circuits that are not closed. */
  get size(): number {
    return this.#circuits.size;
  }

  /**
   * Reads what the rows say of all circuits, or of one, and tells of what has changed. One reading after the other: of
   * two at the same time the one that was asked for first could bring its answer last, and it would be the older one.
   */
  load(webhookId?: string): Promise<void> {
    const reading = this.#readings.then(() => this.#read(webhookId));
    this.#readings = reading.catch(() => {});
    return reading;
  }

  async #read(webhookId: string | undefined): Promise<void> {
    const { pool, clock, onChange } = this.#options;
    const result = await pool.query<CircuitColumns>({ ...READ_CIRCUITS, values: [webhookId ?? null] });
    const nowMs = clock.monotonicMs();
    const changed: LaneKey[] = [];
    const gone = new Set(webhookId === undefined ? this.#stored() : [webhookId]);
    for (const row of result.rows) {
      gone.delete(row.webhook_id);
      const known = this.#circuits.get(row.webhook_id);
      if (known?.reopensAt === row.reopens_at && known.state === row.state) continue;
      const circuit: Circuit = {
        tenantId: row.tenant_id,
        environmentId: row.environment_id,
        webhookId: row.webhook_id,
        state: row.state,
        reopensAtMs: nowMs + Number(row.wait_ms),
        reopensAt: row.reopens_at,
      };
      this.#circuits.set(row.webhook_id, circuit);
      changed.push(circuit);
    }
    for (const id of gone) {
      // It was closed, by a probe of another node or by somebody's change: what failed before does not count any more.
      this.#windows.delete(id);
      const known = this.#circuits.get(id);
      if (known === undefined) continue;
      this.#circuits.delete(id);
      changed.push(known);
    }
    for (const circuit of changed) onChange(circuit);
  }

  /** Circuits with a row. That of one which has just opened here may be on its way. */
  #stored(): string[] {
    return [...this.#circuits.values()].filter((each) => each.reopensAt !== undefined).map((each) => each.webhookId);
  }

  /** Takes an attempt into account. */
  note({ lane, breaker, failed, probe }: CircuitSign): void {
    const circuit = this.find(lane.webhookId);
    if (circuit !== undefined) {
      if (!probe) return;
      if (failed) this.#open(lane, breaker, 'probe_failed');
      else this.#close(lane);
      return;
    }
    const nowMs = this.#options.clock.monotonicMs();
    this.#prune(nowMs);
    let known = this.#windows.get(lane.webhookId);
    if (known === undefined) {
      known = { window: new CircuitWindow(), windowMs: breaker.windowMs };
      this.#windows.set(lane.webhookId, known);
    }
    if (known.window.count(breaker, failed, nowMs)) this.#open(lane, breaker, 'failure_rate');
  }

  /**
   * Takes the right to probe a webhook whose time has come: true on one node of all. `silenceMs`: another node may probe
   * after so long without news of this one. `idle`: take it also while nothing is due, for what may be published.
   */
  async takeProbe(lane: LaneKey, silenceMs: number, idle: boolean): Promise<boolean> {
    const { pool, clock, logger } = this.#options;
    const dueBy = idle ? null : new Date(clock.now());
    try {
      const result = await pool.query({ ...TAKE_PROBE, values: [lane.tenantId, lane.webhookId, silenceMs, dueBy] });
      if (result.rowCount === 1) {
        // Not the one of before the question: it may have been read anew meanwhile.
        const circuit = this.find(lane.webhookId);
        if (circuit !== undefined) {
          circuit.state = 'half_open';
          circuit.reopensAtMs = clock.monotonicMs() + silenceMs;
        }
        return true;
      }
      // Another node was first, the circuit is closed by now, or nothing is due.
      await this.load(lane.webhookId);
    } catch (error) {
      logger.warn({ code: errorCode(error), webhook_id: lane.webhookId }, 'the right to probe could not be taken');
    }
    return false;
  }

  /** This node stops and has not used the right: another may probe at once. */
  returnProbe(lane: LaneKey): Promise<void> {
    return this.#write(lane, RETURN_PROBE);
  }

  #open(lane: LaneKey, breaker: CircuitBreaker, reason: string): void {
    const { clock, onChange } = this.#options;
    this.#windows.delete(lane.webhookId);
    this.#circuits.set(lane.webhookId, {
      tenantId: lane.tenantId,
      environmentId: lane.environmentId,
      webhookId: lane.webhookId,
      state: 'open',
      reopensAtMs: clock.monotonicMs() + breaker.openMs,
      reopensAt: undefined,
    });
    onChange(lane);
    void this.#write(lane, OPEN_CIRCUIT, breaker.openMs, reason);
  }

  #close(lane: LaneKey): void {
    this.#circuits.delete(lane.webhookId);
    this.#options.onChange(lane);
    void this.#write(lane, CLOSE_CIRCUIT);
  }

  /** This node acts on its own word at once; the row, and with it the other nodes, follow. */
  async #write(lane: LaneKey, statement: pg.QueryConfig, ...values: unknown[]): Promise<void> {
    const { pool, logger } = this.#options;
    const { tenantId, environmentId, webhookId } = lane;
    const notice = changeText({ topic: 'circuits', tenantId, environmentId, webhookId });
    try {
      const { rowCount } = await pool.query({ ...statement, values: [tenantId, webhookId, notice, ...values] });
      // Nobody is told of a row that is not there: its webhook was deleted, or another node was first.
      if (rowCount === 0) await this.load(webhookId);
    } catch (error) {
      logger.warn({ code: errorCode(error), webhook_id: webhookId }, 'a circuit could not be stored');
    }
  }

  #prune(nowMs: number): void {
    if (nowMs - this.#prunedAtMs < PRUNE_MS) return;
    this.#prunedAtMs = nowMs;
    for (const [webhookId, { window, windowMs }] of this.#windows) {
      if (window.isSpent(windowMs, nowMs)) this.#windows.delete(webhookId);
    }
  }
}

interface CircuitColumns {
  tenant_id: string;
  environment_id: string;
  webhook_id: string;
  state: Circuit['state'];
  wait_ms: string;
  reopens_at: string;
}
