import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { WebhookTarget } from '../../webhooks/target.ts';
import type { DeliveryTask, Trigger } from '../task.ts';
import { batchBody, gatherBatch, type Waiting } from './batch.ts';

const target = { envelope: 'raw', bodySpelling: 'published' } as WebhookTarget;
const task = (data: string, trigger: Trigger = 'scheduled') =>
  ({ event: { data: Buffer.from(data) }, attemptCount: 0, trigger }) as DeliveryTask;
const queueOf = (tasks: DeliveryTask[]): Waiting => ({ peek: () => tasks[0], shift: () => tasks.shift() });

test('takes what fits, from the front, and the body is exactly as long as was said', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 200 }), (given, events, bytes) => {
      const tasks = given.map((size) => task(`"${'x'.repeat(size)}"`));
      const rest = tasks.slice(1);
      const batch = gatherBatch(tasks[0] as DeliveryTask, target, { events, bytes }, queueOf(rest));
      expect(batch.tasks).toEqual(tasks.slice(0, batch.tasks.length));
      expect(rest).toEqual(tasks.slice(batch.tasks.length));
      const { body } = batchBody(batch);
      expect(JSON.parse(body.toString())).toEqual(batch.tasks.map(({ event }) => JSON.parse(event.data.toString())));
      expect(body.length).toBe(batch.bytes);
      expect(batch.tasks.length).toBeLessThanOrEqual(events);
      if (batch.tasks.length > 1) expect(batch.bytes).toBeLessThanOrEqual(bytes);
      // It stopped because the next one would have been too much.
      const [next] = rest;
      if (next !== undefined && batch.tasks.length < events) {
        expect(batch.bytes + 1 + next.event.data.length).toBeGreaterThan(bytes);
      }
    }),
  );
});

test('what goes to the failover URL does not go with what goes to the webhook’s own', () => {
  const waiting = [task('2'), task('3', 'failover'), task('4')];
  const batch = gatherBatch(task('1'), target, { events: 10, bytes: 1_000 }, queueOf(waiting));
  expect(batch.tasks).toHaveLength(2);
  expect(waiting).toHaveLength(2);
});

test('CloudEvents in binary mode are structured in a batch', () => {
  const binary = { ...target, envelope: 'cloudevents_binary' } as WebhookTarget;
  const first = task('{"a":1}');
  Object.assign(first.event, {
    id: 'evt_1',
    source: '/acme',
    type: 'a.b',
    timestamp: '2026-01-01T00:00:00.000Z',
    metadata: null,
  });
  const { body, contentType } = batchBody(gatherBatch(first, binary, { events: 1, bytes: 1_000 }, queueOf([])));
  expect(contentType).toBe('application/cloudevents-batch+json');
  expect(JSON.parse(body.toString())).toEqual([
    expect.objectContaining({ specversion: '1.0', id: 'evt_1', data: { a: 1 } }),
  ]);
});

test('one that cannot be shaped goes alone, and fails when the body is made', () => {
  const broken = {
    event: {
      get data() {
        throw new Error('broken');
      },
    },
    attemptCount: 0,
  } as unknown as DeliveryTask;
  const alone = gatherBatch(broken, target, { events: 10, bytes: 1_000 }, queueOf([task('1')]));
  expect(alone.tasks).toEqual([broken]);
  expect(() => batchBody(alone)).toThrow();
});
