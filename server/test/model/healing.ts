import { bySystem } from '../../src/audit/auditor.ts';
import { INTERNAL_ATTEMPTS_MAX } from '../../src/delivery/outcome.ts';
import { retryNow } from '../../src/delivery/queries.ts';
import { setWebhookStatus } from '../../src/webhooks/status-commands.ts';
import type { ModelNode } from './model-node.ts';
import { type DeliveryRow, hasEnded, type RowChecks } from './row-checks.ts';
import { SHAPING_MS_MAX } from './scripted-sandbox.ts';
import type { System } from './system.ts';

/** Looks at what is left, until it must be counted as stuck. */
const ROUNDS_MAX = 60;

/**
 * Mends everything outside the engine: receivers answer, webhooks are active, a node lives. From here on every delivery
 * must come to its end by itself; only one that a person has to decide on (a parked key) is decided on.
 */
export async function heal(system: System, checks: RowChecks): Promise<void> {
  await mend(system);
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const rows = (await checks.look(system.wishes())).filter((row) => !hasEnded(row));
    if (system.violations.length > 0) return;
    if (rows.length === 0) return await checkAtRest(system);
    // A node that is gone is noticed after some seconds; later on only what is due is waited for.
    if (round < 5) await system.advance(2_500, 1_250);
    else if (round % 10 === 9) await decide(system);
    else await passUntilDue(system, rows);
  }
  for (const row of (await checks.look(system.wishes())).filter((each) => !hasEnded(each))) {
    const webhook = system.webhooks.findIndex(({ id }) => id === row.webhook_id);
    const state = `${row.status}, due ${row.due_at}, leased to ${row.lease_node}`;
    system.violated(`D2: ${row.id} of webhook ${webhook}, key ${row.ordering_key}, never ends: ${state}`);
  }
}

async function mend(system: System): Promise<void> {
  for (const node of system.nodes) {
    node.wire.mend();
    system.resume(node);
  }
  const node = system.nodes[0] ?? (await system.join());
  await system.settle();
  for (const webhook of system.webhooks) webhook.receiver = 'ok';
  await activate(system, node);
  await system.settle();
  for (const request of [...system.transport.underWay]) request.answer('ok');
  await system.settle();
}

async function activate(system: System, node: ModelNode): Promise<void> {
  for (const webhook of system.webhooks) {
    if (webhook.status === 'deleted') continue;
    webhook.status = 'active';
    await setWebhookStatus(node.store, bySystem(system.scope), webhook.id, 'active');
  }
}

async function passUntilDue(system: System, rows: DeliveryRow[]): Promise<void> {
  const now = system.clock.now();
  const due = rows.flatMap(({ due_at }) => (due_at instanceof Date ? [due_at.getTime()] : []));
  const next = Math.min(...due, now + 30_000);
  await system.leap(Math.max(1_000, next - now));
  await system.advance(2_500 + gatheringMs(system), 500);
}

/** Until what is due has gone with others, and was shaped: a leap in the midst of it would be a node that slept. */
function gatheringMs({ webhooks }: System): number {
  const times = webhooks.map(({ shapes, batching }) => (shapes ? SHAPING_MS_MAX + (batching?.maxWaitMs ?? 0) : 0));
  return Math.max(0, ...times);
}

/**
 * A person looks into what does not go on by itself: tries again what keys wait for that are parked, and enables webhooks
 * of which a 410 was recorded late.
 */
async function decide(system: System): Promise<void> {
  const [node] = system.nodes;
  if (node !== undefined) await activate(system, node);
  system.poisonWorks = false;
  system.templatesFail = false;
  const parking = system.webhooks.filter(({ status, ordering }) => status !== 'deleted' && ordering === 'park');
  const parked = await system.pool.query<{ delivery_id: string }>(
    'SELECT delivery_id FROM parked_keys WHERE tenant_id = $1 AND webhook_id = ANY ($2)',
    [system.tenantId, parking.map(({ id }) => id)],
  );
  for (const { delivery_id } of parked.rows) {
    system.reopened.add(delivery_id);
    system.lastWishes.add('retry');
    await retryNow(system.db, system.scope, delivery_id, system.clock.now());
  }
  await system.settle();
}

/** With nothing left to do, nothing is left in memory either. */
async function checkAtRest(system: System): Promise<void> {
  await system.settle();
  // What was recorded without an answer is recorded again after a while.
  if (system.nodes.some((node) => heldBy(node) > 0)) await system.advance(RECORD_AGAIN_MS, 500);
  for (const node of system.nodes) {
    if (heldBy(node) > 0) system.violated(`D7: ${heldBy(node)} deliveries are left in memory`);
  }
  await checkAttempts(system);
  await checkPoison(system);
}

const RECORD_AGAIN_MS = 2_500;

function heldBy({ engine }: ModelNode): number {
  const { inFlight, queued } = engine.gauges;
  return inFlight + queued;
}

/** Attempts are numbered 1..n. A number may come twice only where a lease was lost, or a person interfered. */
async function checkAttempts(system: System): Promise<void> {
  const result = await system.pool.query<{ id: string; attempt_count: number; numbers: number[] | null }>({
    name: 'attempt-numbers',
    text: `SELECT d.id, d.attempt_count, (
        SELECT array_agg(a.number ORDER BY a.number) FROM attempts a
        WHERE a.tenant_id = d.tenant_id AND a.delivery_id = d.id
      ) AS numbers
      FROM deliveries d WHERE d.tenant_id = $1`,
    values: [system.tenantId],
  });
  for (const { id, attempt_count, numbers } of result.rows) {
    const all = numbers ?? [];
    const expected = Array.from({ length: attempt_count }, (_, at) => at + 1);
    const wrong = system.quiet
      ? JSON.stringify(all) !== JSON.stringify(expected)
      : expected.some((number) => !all.includes(number));
    if (wrong) system.violated(`D5: ${id} has ${attempt_count} attempts, recorded are ${all}`);
  }
}

/**
 * What no request can be built of is given up after so many attempts, whatever its webhook's policy says. What was to go
 * with it fails with it, and may have more of its own.
 */
async function checkPoison(system: System): Promise<void> {
  const result = await system.pool.query<{
    id: string;
    webhook_id: string;
    status_reason: string;
    attempt_count: number;
  }>({
    name: 'internal-faults',
    text: `SELECT id, webhook_id, status_reason, attempt_count FROM deliveries
      WHERE tenant_id = $1 AND status = 'dead' AND error_class = 'internal'`,
    values: [system.tenantId],
  });
  const batched = new Set(system.webhooks.filter(({ hasBatched }) => hasBatched).map(({ id }) => id));
  for (const { id, webhook_id, status_reason, attempt_count } of result.rows) {
    const together = batched.has(webhook_id) && attempt_count > INTERNAL_ATTEMPTS_MAX;
    const once = attempt_count === INTERNAL_ATTEMPTS_MAX || together || system.reopened.has(id);
    if (status_reason !== 'internal_fault' || !once) {
      system.violated(`D10: ${id} ended ${status_reason} after ${attempt_count} attempts`);
    }
  }
}
