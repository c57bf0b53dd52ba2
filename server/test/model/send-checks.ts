import { createHash } from 'node:crypto';
import type pg from 'pg';
import { formatId, timeOfId } from '../../src/kernel/ids.ts';
import type { System } from './system.ts';
import type { SentRequest } from './transport.ts';

interface RowAtSend {
  id: string;
  event_id: string;
  status: string;
  lease_node: number | null;
  attempt_count: number;
  trigger: string;
  ordering_key: string | null;
  /** Deliveries of its key that come before it and have not ended. */
  unended: string[] | null;
  key_parked: boolean;
  /** The circuit of its webhook is open, and not yet to be tried. */
  shut: boolean;
}

/**
 * Looks at what the database says of a delivery at the very moment when a request of it leaves: whether its row is
 * there and leased to the sender, and whether its webhook's limits and order allow it.
 */
export class SendChecks {
  readonly #system: System;
  readonly #pool: pg.Pool;
  #sent: SentRequest[] = [];
  #checking: Promise<void> = Promise.resolve();
  #open = 0;

  constructor(system: System, pool: pg.Pool) {
    this.#system = system;
    this.#pool = pool;
  }

  get pending(): boolean {
    return this.#open > 0;
  }

  async done(): Promise<void> {
    await this.#checking;
  }

  add(request: SentRequest): void {
    this.#checkLimits(request);
    this.#open += 1;
    this.#sent.push(request);
    // What leaves in the same turn is looked at together.
    if (this.#sent.length === 1) queueMicrotask(() => this.#look());
  }

  #look(): void {
    const sent = this.#sent;
    this.#sent = [];
    const looking = this.#checkRows(sent).then(() => {
      this.#open -= sent.length;
      for (const request of sent) {
        const receiver = this.#system.webhooks[request.webhook]?.receiver ?? 'hold';
        if (receiver !== 'hold') request.answer(receiver);
      }
    });
    this.#checking = Promise.all([this.#checking, looking]).then(() => {});
  }

  async #checkRows(sent: SentRequest[]): Promise<void> {
    const result = await this.#pool.query<RowAtSend>({
      name: 'rows-at-send',
      text: ROWS_AT_SEND,
      values: [this.#system.tenantId, sent.flatMap(({ deliveryIds }) => deliveryIds)],
    });
    const rows = new Map(result.rows.map((row) => [row.id, row]));
    for (const request of sent) {
      for (const id of request.deliveryIds) this.#checkRow(request, id, rows.get(id));
      const found = request.deliveryIds.flatMap((id) => rows.get(id) ?? []);
      if (!found.some(({ id }) => this.#system.unheard.has(id))) this.#checkTogether(request, found);
    }
  }

  /** What a request says of its deliveries, and whether so many may go together. */
  #checkTogether(request: SentRequest, rows: RowAtSend[]): void {
    const what = `attempt ${request.attempt} of ${request.deliveryIds} by node ${request.nodeId}`;
    const wrong = (text: string) => this.#system.violated(`${what}: ${text}`);
    const attempts = Math.max(...rows.map(({ attempt_count }) => attempt_count));
    if (attempts !== request.attempt - 1) wrong(`D5: it was sent after ${attempts} attempts`);
    const eventIds = rows.map(({ event_id }) => formatId('event', event_id)).join(',');
    const messageId = rows.length === 1 ? eventIds : `batch_${digest(eventIds)}`;
    if (request.messageId !== messageId) wrong(`D4: its webhook-id is ${request.messageId}`);
    if (request.batchOf !== undefined && request.batchOf !== eventIds) wrong(`D4: its events are ${request.batchOf}`);
    const webhook = this.#system.webhooks[request.webhook];
    // A node that is cut off from the database knows of changes only when it is back.
    if (webhook === undefined || request.begunAtMs < webhook.limitsSinceMs || request.node.wire.stalled) return;
    const { batching } = webhook;
    if ((batching === null) !== (request.batchOf === undefined)) wrong(`B1: batching is ${JSON.stringify(batching)}`);
    if (batching === null || rows.length === 1) return;
    if (rows.length > batching.maxEvents) wrong(`B1: ${rows.length} events go together, ${batching.maxEvents} may`);
    if (request.bytes > batching.maxBytes) wrong(`B1: it has ${request.bytes} bytes of ${batching.maxBytes}`);
  }

  #checkRow(request: SentRequest, deliveryId: string, row: RowAtSend | undefined): void {
    const { transport, reopened } = this.#system;
    const what = `attempt ${request.attempt} of ${deliveryId} by node ${request.nodeId}`;
    const wrong = (text: string) => this.#system.violated(`${what}: ${text}`);
    if (row === undefined) {
      wrong('D1: it was sent without a committed row');
      return;
    }
    if (this.#system.unheard.has(row.id)) return;
    if (row.lease_node !== request.nodeId) wrong(`D3: it was sent with the lease at ${row.lease_node}`);
    if (row.status !== 'pending' && row.status !== 'failed') wrong(`it was sent while ${row.status}`);
    for (const other of transport.underWay) {
      if (other === request || !other.deliveryIds.includes(deliveryId)) continue;
      if (other.node === request.node || other.nodeId === row.lease_node) {
        wrong('D3: another request of it is under way under the same lease, or by the same node');
      }
    }
    const webhook = this.#system.webhooks[request.webhook];
    if (webhook === undefined || request.begunAtMs < webhook.limitsSinceMs) return;
    // One that opens at this moment is not known to every node.
    const isHeard = request.begunAtMs === request.startedAtMs && !request.node.wire.stalled;
    if (row.shut && webhook.shut && !request.toFailover && isHeard) wrong('C1: its circuit is open');
    if (webhook.ordering === null || reopened.has(deliveryId)) return;
    // Those that came while the webhook kept another order, or none, may be on their way.
    const since = webhook.limitsSinceMs;
    const before = (row.unended ?? []).filter((id) => !reopened.has(id) && timeOfId(id) >= since);
    if (before.length > 0) wrong(`D8: ${before} of its key have not ended`);
    if (row.key_parked && webhook.ordering === 'park') wrong('D8: its key is parked');
  }

  #checkLimits(request: SentRequest): void {
    const { webhooks, transport, clock, nodes } = this.#system;
    const webhook = webhooks[request.webhook];
    if (webhook === undefined) {
      this.#system.violated(`a request to nobody: ${request.webhook}`);
      return;
    }
    const name = `webhook ${request.webhook}`;
    const { begunAtMs } = request;
    webhook.startsMs.push(begunAtMs);
    // A node that is cut off from the database knows of changes only when it is back.
    const isHeard = begunAtMs === clock.now() || begunAtMs > webhook.statusSinceMs;
    if (webhook.status !== 'active' && isHeard && !request.node.wire.stalled) {
      this.#system.violated(`D9: a request to ${name}, which is ${webhook.status}`);
    }
    const current = webhook.startsMs.filter((startMs) => startMs >= webhook.limitsSinceMs);
    const inWindow = current.filter((startMs) => startMs > begunAtMs - 60_000 && startMs <= begunAtMs).length;
    if (webhook.ratePerMinute !== null && inWindow > webhook.ratePerMinute) {
      this.#system.violated(
        `L2: ${inWindow} requests within a minute to ${name}, which takes ${webhook.ratePerMinute}`,
      );
    }
    const underWay = [...transport.underWay].filter(
      (other) =>
        other.webhook === request.webhook &&
        other.begunAtMs >= webhook.limitsSinceMs &&
        // What a node sent before it was taken for dead is none of those who go on.
        nodes.some((node) => node.engine.nodeId === other.nodeId),
    ).length;
    if (webhook.maxConcurrency !== null && underWay > webhook.maxConcurrency) {
      this.#system.violated(`L1: ${underWay} requests at once to ${name}, which takes ${webhook.maxConcurrency}`);
    }
  }
}

/** As a receiver that knows the events makes the id of a batch. */
function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

const ROWS_AT_SEND = `
SELECT d.id, d.event_id, d.status, d.lease_node, d.attempt_count, d.trigger, d.ordering_key,
  (
    SELECT array_agg(p.id::text) FROM deliveries p
    WHERE p.tenant_id = d.tenant_id AND p.webhook_id = d.webhook_id AND p.ordering_key = d.ordering_key
      AND p.order_number < d.order_number AND p.status IN ('pending', 'failed', 'held')
      -- One whose payload is gone is never sent: its end is decided, and perhaps not written yet.
      AND EXISTS (SELECT FROM events e WHERE e.tenant_id = p.tenant_id AND e.id = p.event_id AND e.data IS NOT NULL)
  ) AS unended,
  EXISTS (
    SELECT FROM parked_keys k
    WHERE k.tenant_id = d.tenant_id AND k.webhook_id = d.webhook_id AND k.ordering_key = d.ordering_key
      AND d.order_number IS NOT NULL AND k.delivery_id <> d.id
  ) AS key_parked,
  EXISTS (
    SELECT FROM circuits c
    WHERE c.tenant_id = d.tenant_id AND c.webhook_id = d.webhook_id AND c.state = 'open' AND c.reopens_at > now()
  ) AS shut
FROM deliveries d WHERE d.tenant_id = $1 AND d.id = ANY ($2::uuid[])`;
