import fc from 'fast-check';
import { bySystem } from '../../src/audit/auditor.ts';
import type { Command as RowCommand } from '../../src/delivery/transitions.ts';
import type { PublishRequest } from '../../src/events/publish-request.ts';
import { AppError } from '../../src/kernel/errors.ts';
import type { Batching } from '../../src/webhooks/batching.ts';
import { changeWebhook, deleteWebhook } from '../../src/webhooks/commands.ts';
import { rotateSecret } from '../../src/webhooks/secret-commands.ts';
import type { WebhookStatus } from '../../src/webhooks/settings.ts';
import { setWebhookStatus } from '../../src/webhooks/status-commands.ts';
import { chosen } from './chosen.ts';
import { FAULTY, type FaultyStatement } from './faulty-statements.ts';
import type { ModelNode } from './model-node.ts';
import { SHAPES, type ShapeOf } from './scripted-sandbox.ts';
import { type Limits, limitsBody, type ModelWebhook, type Setup, type System, type WebhookSetup } from './system.ts';
import type { Answer } from './transport.ts';
import type { FaultTime } from './wire.ts';
import { type Wish, wish } from './wishes.ts';

/** One event of a publish. */
export interface EventPlan {
  type: 'a' | 'b';
  /** Of a few, so that they come twice. */
  eventId: 'k0' | 'k1' | null;
  orderingKey: 'x' | 'y' | null;
  priority: number;
  /** Milliseconds from now; null: at once. */
  deliverInMs: number | null;
  poison: boolean;
  /** Of its data, about. */
  bytes: number;
  /** What templates make of it. */
  shape: ShapeOf;
  /** Filters take it. */
  wanted: boolean;
}

/**
 * What may happen. Numbers that pick something count on beyond the end: 7 of 3 nodes is the second. A command that has
 * nothing to act on does nothing.
 */
export type Step =
  | { do: 'publish'; node: number; events: EventPlan[] }
  | { do: 'answer'; request: number; answer: Answer }
  | { do: 'answer all'; answer: Answer }
  | { do: 'receiver'; webhook: number; receiver: Answer | 'hold' }
  | { do: 'pass'; ms: number }
  | { do: 'leap'; ms: number }
  | { do: 'join' }
  | { do: 'leave'; node: number; drainMs: number }
  | { do: 'crash'; node: number }
  | { do: 'restart'; node: number }
  | { do: 'stall'; node: number }
  | { do: 'resume'; node: number }
  | { do: 'fault'; node: number; statements: FaultyStatement[]; when: FaultTime }
  | { do: 'status'; webhook: number; status: WebhookStatus }
  | { do: 'limits'; webhook: number; limits: Limits }
  | { do: 'rotate'; webhook: number }
  | { do: 'delete'; webhook: number }
  | Wish;

const pick = fc.nat({ max: 11 });
const answers = fc.constantFrom<Answer>(
  'ok',
  'ok',
  'ok',
  'error',
  'error',
  'busy',
  'reset',
  'timeout',
  'gone',
  'too large',
);
const receivers = fc.constantFrom<Answer | 'hold'>('hold', 'hold', 'ok', 'ok', 'error', 'one at a time');

/** Its bytes are those of two of the large events, or of many small ones. */
const batching: fc.Arbitrary<Batching> = fc.record({
  maxEvents: fc.constantFrom(2, 3, 10),
  maxWaitMs: fc.constantFrom(0, 400, 3_000),
  maxBytes: fc.constantFrom(1_024, 1_500),
});

const limits: fc.Arbitrary<Limits> = fc.record({
  maxConcurrency: fc.constantFrom(null, null, 1, 2),
  ratePerMinute: fc.constantFrom(null, null, null, 20, 60),
  ordering: fc.constantFrom(null, null, 'skip', 'park'),
  breaker: fc.boolean(),
  batching: fc.oneof(fc.constant(null), batching),
  shapes: fc.constantFrom(false, false, true),
  filters: fc.constantFrom(false, false, true),
});

const webhookSetup: fc.Arbitrary<WebhookSetup> = fc
  .record({
    failover: fc.constantFrom(false, false, true),
    maxAttempts: fc.integer({ min: 1, max: 4 }),
    priority: fc.constantFrom(0, 0, 5),
    timeoutSeconds: fc.constantFrom(5, 5, 60),
    receiver: receivers,
  })
  .chain((rest) => limits.map((own) => ({ ...rest, ...own })));

export const setups: fc.Arbitrary<Setup> = fc.record({
  nodes: fc.integer({ min: 1, max: 3 }),
  webhooks: fc.array(webhookSetup, { minLength: 1, maxLength: 3 }),
  inFlightMax: fc.constantFrom(2, 4, 16),
  queuedMax: fc.constantFrom(4, 12, 100),
});

const event: fc.Arbitrary<EventPlan> = fc.record({
  type: fc.constantFrom('a', 'a', 'b'),
  eventId: fc.constantFrom(null, null, null, 'k0', 'k1'),
  orderingKey: fc.constantFrom(null, 'x', 'x', 'y'),
  priority: fc.constantFrom(0, 0, 0, 3, -3),
  deliverInMs: fc.constantFrom(null, null, null, null, 2_000, 90_000),
  poison: fc.constantFrom(false, false, false, false, false, true),
  bytes: fc.constantFrom(0, 0, 300, 2_000),
  shape: fc.constantFrom('ok', 'ok', ...SHAPES),
  wanted: fc.constantFrom(true, true, false),
});

/** Several, since many of them are seldom sent. */
const faults = fc.subarray([...FAULTY], { minLength: 1, maxLength: 8 });

const weighted = (weight: number, arbitrary: fc.Arbitrary<Step>) => ({ weight, arbitrary });
const step = <Name extends Step['do']>(name: Name, fields: Record<string, fc.Arbitrary<unknown>> = {}) =>
  fc.record({ do: fc.constant(name), ...fields }) as unknown as fc.Arbitrary<Step>;

const steps: fc.Arbitrary<Step> = fc.oneof(
  weighted(14, step('publish', { node: pick, events: fc.array(event, { minLength: 1, maxLength: 4 }) })),
  weighted(8, step('answer', { request: pick, answer: answers })),
  weighted(4, step('answer all', { answer: answers })),
  weighted(2, step('receiver', { webhook: pick, receiver: receivers })),
  weighted(8, step('pass', { ms: fc.constantFrom(300, 1_100, 2_500, 5_000, 9_000) })),
  weighted(2, step('leap', { ms: fc.constantFrom(30_000, 600_000) })),
  weighted(2, step('join')),
  weighted(2, step('leave', { node: pick, drainMs: fc.constantFrom(0, 2_000) })),
  weighted(2, step('crash', { node: pick })),
  weighted(1, step('restart', { node: pick })),
  weighted(2, step('stall', { node: pick })),
  weighted(2, step('resume', { node: pick })),
  weighted(5, step('fault', { node: pick, statements: faults, when: fc.constantFrom('before', 'after') })),
  weighted(3, step('status', { webhook: pick, status: fc.constantFrom('active', 'active', 'paused', 'disabled') })),
  weighted(3, step('limits', { webhook: pick, limits })),
  weighted(1, step('rotate', { webhook: pick })),
  weighted(1, step('delete', { webhook: pick })),
  weighted(2, step('retry', { delivery: pick })),
  weighted(1, step('replay', { delivery: pick })),
  weighted(2, step('cancel', { delivery: pick })),
  weighted(1, step('erase', { delivery: pick })),
);

export const runs: fc.Arbitrary<Step[]> = fc.array(steps, { minLength: 5, maxLength: 20, size: 'max' });

/** Does it, and gives what it asked of rows. */
export async function perform(system: System, step: Step): Promise<RowCommand[]> {
  switch (step.do) {
    case 'publish': {
      const node = chosen(system.nodes, step.node);
      if (node !== undefined) publish(system, node, step.events);
      return [];
    }
    case 'answer':
      await system.looked();
      chosen([...system.transport.underWay], step.request)?.answer(step.answer);
      return [];
    case 'answer all':
      await system.looked();
      for (const request of [...system.transport.underWay]) request.answer(step.answer);
      return [];
    case 'receiver': {
      const webhook = chosen(system.webhooks, step.webhook);
      if (webhook !== undefined) webhook.receiver = step.receiver;
      return [];
    }
    case 'pass':
      await system.advance(step.ms, Math.min(Math.ceil(step.ms / 3), 1_000));
      return [];
    case 'leap':
      await system.leap(step.ms);
      return [];
    case 'join':
      if (system.nodes.length < NODES_MAX) await system.join();
      return [];
    case 'leave':
    case 'crash':
    case 'restart':
    case 'stall':
    case 'resume':
    case 'fault': {
      const node = chosen(system.nodes, step.node);
      if (node !== undefined) await disturb(system, node, step);
      return [];
    }
    case 'status':
    case 'limits':
    case 'rotate':
    case 'delete': {
      const webhook = chosen(
        system.webhooks.filter(({ status }) => status !== 'deleted'),
        step.webhook,
      );
      return webhook === undefined ? [] : change(system, webhook, step);
    }
    case 'retry':
    case 'replay':
    case 'cancel':
    case 'erase':
      return wish(system, step);
  }
}

const NODES_MAX = 4;

/** Does not wait for the answer, which may be long in coming. */
function publish(system: System, node: ModelNode, plans: EventPlan[]): void {
  const now = system.clock.now();
  const requests: PublishRequest[] = plans.map((plan) => {
    // An event that is published again is the same event.
    const own = plan.eventId === null;
    const dataValue = {
      name: own ? system.newId() : `${plan.eventId}${plan.type}`,
      poison: plan.poison && own,
      filler: 'x'.repeat(own ? plan.bytes : 0),
      shape: own ? plan.shape : 'ok',
      wanted: isWanted(plan),
    };
    return {
      type: plan.type,
      data: Buffer.from(JSON.stringify(dataValue)),
      dataValue,
      metadata: null,
      eventId: plan.eventId === null ? null : `${plan.eventId}${plan.type}`,
      occurredAtMs: now,
      orderingKey: plan.orderingKey,
      priority: plan.priority,
      deliverAtMs: plan.deliverInMs === null ? null : now + plan.deliverInMs,
    };
  });
  const subscribers = plans.map(
    (plan) =>
      system.webhooks.filter(
        ({ status, filters }, place) =>
          status !== 'deleted' && (place === 0 || plan.type === 'a') && (!filters || isWanted(plan)),
      ).length,
  );
  const { stalled } = node.wire;
  node.publisher.publish(system.scope, requests).then(
    (results) => {
      for (const [at, result] of results.entries()) {
        if (result.duplicate) continue;
        system.accepted.push({ id: result.id, deliveries: result.deliveries });
        if (!stalled && result.deliveries !== subscribers[at]) {
          system.violated(`D1: ${result.id} has ${result.deliveries} deliveries for ${subscribers[at]} webhooks`);
        }
      }
    },
    (error) => {
      // The publisher was told that nothing was accepted.
      if (!(error instanceof AppError)) system.violated(`a publish failed: ${error}`);
    },
  );
}

/** An event that is published again is the same event. */
const isWanted = ({ eventId, wanted }: EventPlan): boolean => eventId !== null || wanted;

type Disturbance = Extract<Step, { node: number }>;

async function disturb(system: System, node: ModelNode, step: Disturbance): Promise<void> {
  // A fault disturbs nobody before it happens.
  if (step.do !== 'fault') system.quiet = false;
  switch (step.do) {
    case 'leave':
      if (node.wire.stalled) system.crash(node);
      else await system.leave(node, step.drainMs);
      return;
    case 'crash':
      return system.crash(node);
    case 'restart':
      system.crash(node);
      await system.join();
      return;
    case 'stall':
      node.inDoubt = true;
      return node.wire.stall();
    case 'resume':
      return system.resume(node);
    case 'fault':
      for (const statement of step.statements) node.wire.fail(statement, step.when);
  }
}

async function change(
  system: System,
  webhook: ModelWebhook,
  step: Extract<Step, { webhook: number }>,
): Promise<RowCommand[]> {
  // The API works on whichever node is there.
  const node = system.sound[0];
  if (node === undefined) return [];
  const { store } = node;
  switch (step.do) {
    case 'status':
      await setWebhookStatus(store, bySystem(system.scope), webhook.id, step.status);
      await system.settle();
      webhook.status = step.status;
      webhook.statusSinceMs = system.clock.now();
      return [];
    case 'limits':
      // From the moment of the change on neither the old nor the new limits are looked for, until all nodes know.
      webhook.limitsSinceMs = Number.POSITIVE_INFINITY;
      await changeWebhook(
        store,
        bySystem(system.scope),
        webhook.id,
        limitsBody(step.limits, system.webhooks.indexOf(webhook)),
      );
      await system.settle();
      await system.advance(1, 1);
      Object.assign(webhook, step.limits, { limitsSinceMs: system.clock.now() });
      webhook.hasBatched ||= step.limits.batching !== null;
      system.discards ||= step.limits.shapes;
      return [];
    case 'rotate':
      await rotateSecret(store, bySystem(system.scope), webhook.id, { graceSeconds: 60 }).catch((error) => {
        if (!(error instanceof AppError)) throw error;
      });
      return [];
    case 'delete':
      await deleteWebhook(store, bySystem(system.scope), webhook.id);
      webhook.status = 'deleted';
      webhook.statusSinceMs = system.clock.now();
      system.discards = true;
      return [];
    default:
      return [];
  }
}
