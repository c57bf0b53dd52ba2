import { COMMANDS, type Command, type DeliveryStatus, TRANSITIONS } from '../../src/delivery/transitions.ts';
import { formatId } from '../../src/kernel/ids.ts';
import type { System } from './system.ts';
import type { SentRequest } from './transport.ts';

export interface DeliveryRow {
  id: string;
  event_id: string;
  webhook_id: string;
  status: DeliveryStatus;
  status_reason: string | null;
  trigger: string;
  attempt_count: number;
  /** The number Infinity for `infinity`. */
  due_at: Date | number | null;
  lease_node: number | null;
  completed_at: Date | null;
  ordering_key: string | null;
}

const ENDS: readonly DeliveryStatus[] = ['delivered', 'dead', 'cancelled', 'discarded'];

export const hasEnded = ({ status }: DeliveryRow): boolean => ENDS.includes(status);

export async function readRows(system: System): Promise<DeliveryRow[]> {
  const result = await system.pool.query<DeliveryRow>({
    name: 'model-rows',
    text: `SELECT id, event_id, webhook_id, status, status_reason, trigger, attempt_count, due_at, lease_node,
        completed_at, ordering_key
      FROM deliveries WHERE tenant_id = $1 ORDER BY id`,
    values: [system.tenantId],
  });
  return result.rows;
}

/**
 * What must hold of the rows whenever nothing happens: none is in a state that SPEC.md calls impossible, none has moved
 * in a way that the transition table does not know, none is missing, and memory holds what is leased and no more than
 * it may.
 */
export class RowChecks {
  readonly #system: System;
  #before = new Map<string, DeliveryRow>();

  constructor(system: System) {
    this.#system = system;
  }

  /** `wishes`: what people may have asked for since the last look. */
  async look(wishes: readonly Command[] = []): Promise<DeliveryRow[]> {
    const { underWay } = this.#system.transport;
    const sentBefore = [...underWay];
    const rows = await readRows(this.#system);
    // Of what was sent meanwhile, or has ended meanwhile, these rows say nothing.
    const sent = sentBefore.filter((request) => underWay.has(request));
    for (const row of rows) {
      const fault = impossible(row);
      if (fault !== undefined) this.#wrong(row, fault);
      const before = this.#before.get(row.id);
      if (before !== undefined && !canBecome(before.status, row.status, wishes)) {
        this.#wrong(row, `it was ${before.status}, and no command leads from there to ${row.status}`);
      }
      if (row.status === 'delivered' && !this.#system.transport.succeeded.has(row.id)) {
        this.#wrong(row, 'it is delivered, and no request of it was answered with success');
      }
    }
    const now = new Map(rows.map((row) => [row.id, row]));
    for (const row of this.#before.values()) if (!now.has(row.id)) this.#wrong(row, 'D2: its row is gone');
    this.#before = now;
    this.#checkAccepted(rows);
    this.#checkMemory();
    await this.#checkLost(rows);
    await this.#checkLeases(rows, sent);
    await this.#noteCircuits();
    return rows;
  }

  /** While a request is under way its delivery stays with the node that sent it, as long as that node counts. */
  async #checkLeases(rows: DeliveryRow[], sent: readonly SentRequest[]): Promise<void> {
    const { pool } = this.#system;
    if (sent.length === 0) return;
    const nodes = await pool.query<{ id: number }>({ name: 'nodes', text: 'SELECT id FROM nodes' });
    const counting = new Set(nodes.rows.map(({ id }) => id));
    const leases = new Map(rows.map((row) => [row.id, row.lease_node]));
    const each = sent.flatMap((request) => request.deliveryIds.map((deliveryId) => ({ ...request, deliveryId })));
    for (const { deliveryId, attempt, nodeId, node, cancelled } of each) {
      const lease = leases.get(deliveryId);
      if (
        lease === nodeId ||
        cancelled.has(deliveryId) ||
        this.#system.unheard.has(deliveryId) ||
        nodeId !== node.engine.nodeId ||
        !counting.has(nodeId)
      )
        continue;
      this.#system.violated(`D3: attempt ${attempt} of ${deliveryId} is under way, and its lease is ${lease}`);
    }
  }

  async #noteCircuits(): Promise<void> {
    const { pool, tenantId, webhooks } = this.#system;
    if (webhooks.every(({ breaker }) => !breaker)) return;
    const shut = await pool.query<{ webhook_id: string }>({
      name: 'shut-circuits',
      text: `SELECT webhook_id FROM circuits WHERE tenant_id = $1 AND state = 'open' AND reopens_at > now()`,
      values: [tenantId],
    });
    const ids = new Set(shut.rows.map((row) => row.webhook_id));
    for (const webhook of webhooks) webhook.shut = ids.has(webhook.id);
  }

  #checkAccepted(rows: DeliveryRow[]): void {
    const perEvent = new Map<string, number>();
    for (const { id: deliveryId, event_id } of rows) {
      if (this.#system.replays.has(deliveryId)) continue;
      const id = formatId('event', event_id);
      perEvent.set(id, (perEvent.get(id) ?? 0) + 1);
    }
    for (const { id, deliveries } of this.#system.accepted) {
      const found = perEvent.get(id) ?? 0;
      if (found !== deliveries)
        this.#system.violated(`D1: ${id} was accepted with ${deliveries} deliveries, ${found} are there`);
    }
  }

  #checkMemory(): void {
    const { inFlightMax, queuedMax, webhooks } = this.#system;
    for (const node of this.#system.nodes) {
      const { inFlight, queued, lanes } = node.engine.gauges;
      const held = inFlight + queued;
      if (inFlight > inFlightMax) this.#system.violated(`D7: ${inFlight} requests under way, ${inFlightMax} may be`);
      // One claim may come on top: half of what is free for each of its lanes.
      const heldMax = queuedMax + webhooks.length * Math.ceil(queuedMax / 2);
      if (held > heldMax) this.#system.violated(`D7: ${held} deliveries in memory, ${heldMax} may be`);
      if (lanes > webhooks.length) this.#system.violated(`D7: ${lanes} lanes of ${webhooks.length} webhooks`);
    }
  }

  /** A lease that no memory knows would stay: what is only on its way, after one more rest, is none. */
  async #checkLost(rows: DeliveryRow[]): Promise<void> {
    if (this.#holdingLess(rows).length === 0) return;
    await this.#system.rest();
    for (const { nodeId, leased, held } of this.#holdingLess(await readRows(this.#system))) {
      this.#system.violated(`D2: node ${nodeId} has ${leased} leases and ${held} deliveries`);
    }
  }

  #holdingLess(rows: DeliveryRow[]): { nodeId: number; leased: number; held: number }[] {
    return this.#system.nodes
      .filter(({ inDoubt, wire }) => !inDoubt && !wire.stalled)
      .map(({ engine }) => ({
        nodeId: engine.nodeId,
        leased: rows.filter((row) => row.lease_node === engine.nodeId).length,
        held: engine.gauges.inFlight + engine.gauges.queued,
      }))
      .filter(({ leased, held }) => leased > held);
  }

  #wrong(row: DeliveryRow, text: string): void {
    this.#system.violated(`${row.id} (${row.status}, due ${row.due_at}, leased to ${row.lease_node}): ${text}`);
  }
}

/** Why a row is none that can be; SPEC.md, "The lease axis". */
function impossible(row: DeliveryRow): string | undefined {
  const { status, due_at, lease_node, completed_at, status_reason } = row;
  if (lease_node !== null && due_at !== null) return 'I1: it waits and is leased';
  if (hasEnded(row)) {
    if (lease_node !== null || due_at !== null) return 'I2: it has ended, and is leased or waits';
    if (completed_at === null) return 'I2: it has ended at no time';
    if ((status === 'dead' || status === 'discarded') && status_reason === null)
      return 'D2: it has ended for no reason';
    return undefined;
  }
  if (completed_at !== null) return 'I3: it has not ended, and says when';
  if (lease_node === null && due_at === null) return 'I3: it is unfinished, and neither waits nor is leased';
  if (status === 'held' && due_at !== Number.POSITIVE_INFINITY) return 'I4: it is held, and due at a time';
  return undefined;
}

const WISHES: readonly Command[] = ['cancel', 'retry', 'replay', 'discard'];

/** Some sequence of commands leads from one status to another; of people's wishes only those given. */
function canBecome(from: DeliveryStatus, to: DeliveryStatus, wishes: readonly Command[]): boolean {
  const commands = (Object.keys(COMMANDS) as Command[]).filter(
    (command) => !WISHES.includes(command) || wishes.includes(command),
  );
  const seen = new Set<DeliveryStatus>([from]);
  for (const status of seen) {
    for (const command of commands) {
      const next = TRANSITIONS[status][command];
      if (next === 'refused') continue;
      if (next === 'unfinished') seen.add('pending').add('failed');
      else seen.add(next);
    }
  }
  return seen.has(to);
}
