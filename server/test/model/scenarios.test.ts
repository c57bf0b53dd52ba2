import { afterAll, beforeAll, test } from 'vitest';
import type { EventPlan, Step } from './commands.ts';
import { type ModelDatabase, openModelDatabase } from './model-database.ts';
import { Runs } from './run.ts';
import type { Setup, WebhookSetup } from './system.ts';

/**
 * Runs of the model that are always played: each was wrong once. What they claim is checked by the model's own looks at
 * requests and rows.
 */
let database: ModelDatabase;
let runs: Runs;
beforeAll(async () => {
  database = await openModelDatabase();
  runs = new Runs(database);
});
afterAll(async () => {
  await database.close();
});

const webhook = (fields: Partial<WebhookSetup> = {}): WebhookSetup => ({
  failover: false,
  maxAttempts: 4,
  priority: 0,
  timeoutSeconds: 60,
  receiver: 'hold',
  maxConcurrency: null,
  ratePerMinute: null,
  ordering: null,
  breaker: false,
  batching: null,
  shapes: false,
  filters: false,
  ...fields,
});
const setup = (fields: Partial<Setup> = {}): Setup => ({
  nodes: 1,
  webhooks: [webhook()],
  inFlightMax: 16,
  queuedMax: 100,
  ...fields,
});
const event = (fields: Partial<EventPlan> = {}): EventPlan => ({
  type: 'a',
  eventId: null,
  orderingKey: null,
  priority: 0,
  deliverInMs: null,
  poison: false,
  bytes: 0,
  shape: 'ok',
  wanted: true,
  ...fields,
});
const publish = (...events: EventPlan[]): Step => ({ do: 'publish', node: 0, events });
const pass = (ms: number): Step => ({ do: 'pass', ms });
const answer = (request: number, how: Extract<Step, { do: 'answer' }>['answer']): Step => ({
  do: 'answer',
  request,
  answer: how,
});

test('an event of which no request can be built is set aside after five attempts, and the others go on', async () => {
  const one = setup({ webhooks: [webhook({ receiver: 'ok', ordering: 'skip' })] });
  await runs.play(one, [
    publish(event({ poison: true, orderingKey: 'x' }), event({ orderingKey: 'x' }), event()),
    pass(9_000),
  ]);
});

test('what an earlier owner parked goes on when the delivery before it has ended under the next one', async () => {
  const ordered = setup({ webhooks: [webhook({ ordering: 'skip' })] });
  await runs.play(ordered, [
    publish(event({ orderingKey: 'x' }), event({ orderingKey: 'x' })),
    pass(300),
    answer(0, 'busy'),
    pass(300),
    { do: 'restart', node: 0 },
    pass(9_000),
  ]);
});

test('a publish whose commit is in doubt is delivered although its node stops', async () => {
  await runs.play(setup(), [
    { do: 'fault', node: 0, statements: ['store-events'], when: 'after' },
    publish(event()),
    { do: 'leave', node: 0, drainMs: 0 },
  ]);
});

test('a delivery that could not be given back is delivered although its node stops', async () => {
  await runs.play(setup({ inFlightMax: 2 }), [
    publish(event(), event(), event(), event()),
    { do: 'fault', node: 0, statements: ['give-up-leases'], when: 'before' },
    { do: 'answer all', answer: 'ok' },
    { do: 'leave', node: 0, drainMs: 2_000 },
  ]);
});

test('deliveries of a claim whose answer was lost are found again, however old they are, also by another node', async () => {
  const late = publish(event({ deliverInMs: 90_000 }));
  const lost: Step = { do: 'fault', node: 0, statements: ['claim-due'], when: 'after' };
  await runs.play(setup(), [late, { do: 'leap', ms: 600_000 }, lost, pass(9_000)]);
  await runs.play(setup(), [late, { do: 'leap', ms: 600_000 }, lost, pass(9_000), { do: 'crash', node: 0 }]);
});

test('while leases are in doubt nothing that comes after them in an order is sent', async () => {
  const ordered = setup({ webhooks: [webhook({ ordering: 'skip', receiver: 'ok' })], nodes: 2 });
  await runs.play(ordered, [
    { do: 'fault', node: 0, statements: ['claim-due'], when: 'after' },
    { do: 'fault', node: 1, statements: ['claim-due'], when: 'after' },
    publish(event({ orderingKey: 'x' })),
    pass(2_500),
    publish(event({ orderingKey: 'x' })),
    pass(9_000),
    { do: 'join' },
    pass(9_000),
  ]);
});

test('a lane that was taken without an answer is not kept from the node that should have it', async () => {
  const bound = setup({ webhooks: [webhook({ maxConcurrency: 1, receiver: 'ok' })] });
  for (const nodes of [1, 2, 3]) {
    await runs.play(bound, [
      { do: 'fault', node: 0, statements: ['acquire-lanes'], when: 'after' },
      publish(event()),
      ...Array.from({ length: nodes }, (): Step => ({ do: 'join' })),
      pass(9_000),
    ]);
  }
});

test('a result that comes after its node was taken for dead and came back moves nothing', async () => {
  await runs.play(setup({ nodes: 2 }), [
    publish(event()),
    { do: 'stall', node: 0 },
    // The other node takes the delivery over, and its request fails.
    pass(9_000),
    pass(2_500),
    answer(1, 'error'),
    { do: 'crash', node: 1 },
    { do: 'resume', node: 0 },
    pass(9_000),
    pass(9_000),
    // The first request of all is answered when the node has leased the delivery anew.
    answer(0, 'ok'),
    pass(300),
  ]);
});

test('a result that comes after its delivery was cancelled and set going again moves nothing', async () => {
  await runs.play(setup(), [
    publish(event()),
    { do: 'cancel', delivery: 0 },
    { do: 'retry', delivery: 0 },
    pass(2_500),
    answer(0, 'error'),
    pass(2_500),
  ]);
});

test('of a circuit whose opening was stored without an answer the other nodes know', async () => {
  await runs.play(setup({ nodes: 2, webhooks: [webhook({ breaker: true })] }), [
    { do: 'fault', node: 0, statements: ['open-circuit'], when: 'after' },
    publish(event(), event()),
    { do: 'answer all', answer: 'error' },
    pass(300),
    { do: 'publish', node: 1, events: [event()] },
    pass(300),
  ]);
});

test('what was cancelled while its node heard of nothing is not kept until its pace allows the next start', async () => {
  for (const statements of [[], ['find-ended'] as const]) {
    await runs.play(setup({ webhooks: [webhook({ ratePerMinute: 20 })] }), [
      publish(event(), event()),
      pass(300),
      { do: 'stall', node: 0 },
      { do: 'cancel', delivery: 1 },
      { do: 'fault', node: 0, statements: [...statements], when: 'before' },
    ]);
  }
});

test('a key is not parked by a request that began before its webhook parked no keys any more', async () => {
  for (const ordering of ['skip', null] as const) {
    await runs.play(setup({ webhooks: [webhook({ ordering: 'park' })] }), [
      publish(event({ orderingKey: 'x' }), event({ orderingKey: 'x' })),
      pass(300),
      {
        do: 'limits',
        webhook: 0,
        limits: {
          maxConcurrency: null,
          ratePerMinute: null,
          ordering,
          breaker: false,
          batching: null,
          shapes: false,
          filters: false,
        },
      },
      answer(0, 'gone'),
    ]);
  }
});

test('a delivery that was given back without an answer does not stop one before it that is replayed', async () => {
  const paced = setup({ webhooks: [webhook({ ordering: 'skip', ratePerMinute: 20, receiver: 'ok' })] });
  await runs.play(paced, [
    publish(event({ deliverInMs: 90_000 }), event(), event({ orderingKey: 'x' })),
    { do: 'cancel', delivery: 0 },
    { do: 'fault', node: 0, statements: ['give-up-leases'], when: 'after' },
    { do: 'status', webhook: 0, status: 'disabled' },
    pass(1_100),
    { do: 'replay', delivery: 0 },
  ]);
});

test('a key that is parked goes on although one before its dead delivery was set going again', async () => {
  const parking = setup({ webhooks: [webhook({ ordering: 'park', maxAttempts: 1, receiver: 'error' })] });
  const keyed = event({ orderingKey: 'x' });
  await runs.play(parking, [
    publish(keyed),
    { do: 'cancel', delivery: 0 },
    publish(keyed),
    pass(300),
    { do: 'replay', delivery: 0 },
  ]);
});

test('what a transform cancels has ended when its row says so, and not before', async () => {
  const shaped = setup({ webhooks: [webhook({ ordering: 'skip', shapes: true, receiver: 'ok' })] });
  const batching = { maxEvents: 2, maxWaitMs: 0, maxBytes: 1_024 };
  const together = setup({ webhooks: [webhook({ ordering: 'skip', shapes: true, receiver: 'ok', batching })] });
  for (const each of [shaped, together]) {
    await runs.play(each, [
      publish(event({ orderingKey: 'x', shape: 'cancel' }), event({ orderingKey: 'x' })),
      pass(300),
      { do: 'fault', node: 0, statements: ['give-up-leases'], when: 'before' },
      publish(event({ orderingKey: 'x', shape: 'cancel' }), event({ orderingKey: 'x' })),
      pass(2_500),
    ]);
  }
});

test('what is cancelled while its template works is not sent', async () => {
  await runs.play(setup({ webhooks: [webhook({ shapes: true, receiver: 'ok' })] }), [
    publish(event({ shape: 'slow' })),
    { do: 'cancel', delivery: 0 },
    pass(1_100),
  ]);
});

test('a delivery that a node lost while it read its webhook is not sent by that node', async () => {
  const bound = setup({ nodes: 2, webhooks: [webhook({ maxConcurrency: 1 })] });
  // One of them has the lane.
  for (const node of [0, 1]) {
    await runs.play(bound, [
      publish(event(), event()),
      pass(300),
      { do: 'rotate', webhook: 0 },
      { do: 'stall', node },
      answer(0, 'ok'),
      pass(9_000),
      pass(2_500),
      { do: 'resume', node },
      pass(300),
    ]);
  }
});
