import { expect, test } from 'vitest';
import { Lane } from './lane.ts';
import type { DeliveryTask } from './task.ts';
import { Turns } from './turns.ts';

const lane = (tenantId: string, webhookId: string, tasks: number) => {
  const made = new Lane(tenantId, webhookId);
  for (let n = 0; n < tasks; n++) made.push({ id: `${webhookId}-${n}` } as DeliveryTask);
  return made;
};

/** Starts one request, as the engine does; the name of the lane whose turn it was. */
const start = (turns: Turns): string | undefined => {
  const next = turns.next();
  if (next === undefined) return undefined;
  next.shift();
  turns.offer(next);
  return next.webhookId;
};

test('tenants take turns however many lanes and deliveries one of them has', () => {
  const turns = new Turns(100);
  for (const webhook of ['a1', 'a2', 'a3']) turns.offer(lane('a', webhook, 50));
  turns.offer(lane('b', 'b1', 3));
  expect(Array.from({ length: 6 }, () => start(turns))).toEqual(['a1', 'b1', 'a2', 'b1', 'a3', 'b1']);
});

test('a tenant whose requests hang leaves half of the places to the others', () => {
  const turns = new Turns(10);
  turns.offer(lane('hanging', 'h', 100));
  const started = Array.from({ length: 20 }, () => start(turns)).filter((name) => name !== undefined);
  expect(started).toHaveLength(5);
  turns.offer(lane('other', 'o', 5));
  expect(Array.from({ length: 6 }, () => start(turns))).toEqual(['o', 'o', 'o', 'o', 'o', undefined]);
  expect(turns.inFlight).toBe(10);
});

test('a lane never has more requests under way than its concurrency, and goes on when one ends', () => {
  const turns = new Turns(100);
  const narrow = lane('a', 'narrow', 10);
  narrow.limit(2);
  turns.offer(narrow);
  expect([start(turns), start(turns), start(turns)]).toEqual(['narrow', 'narrow', undefined]);
  turns.release(narrow);
  turns.offer(narrow);
  expect([start(turns), start(turns)]).toEqual(['narrow', undefined]);
});

test('the places are never exceeded, and all are given back', () => {
  const turns = new Turns(3);
  const lanes = ['a', 'b', 'c', 'd'].map((tenant) => lane(tenant, tenant, 4));
  for (const each of lanes) turns.offer(each);
  const running: Lane[] = [];
  let total = 0;
  for (;;) {
    const next = turns.next();
    if (next === undefined) {
      const ended = running.shift();
      if (ended === undefined) break;
      turns.release(ended);
      turns.offer(ended);
      continue;
    }
    next.shift();
    turns.offer(next);
    running.push(next);
    total += 1;
    expect(turns.inFlight).toBeLessThanOrEqual(3);
  }
  expect(total).toBe(16);
  expect(turns.inFlight).toBe(0);
});
