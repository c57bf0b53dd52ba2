import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PASSED_OVER_MAX, PriorityQueue } from './priority-queue.ts';

test('higher priorities come first, equal ones in the order in which they came', () => {
  fc.assert(
    fc.property(fc.array(fc.option(fc.integer({ min: -2, max: 2 }), { freq: 3 })), (commands) => {
      const queue = new PriorityQueue<{ priority: number; order: number }>();
      const model: { priority: number; order: number }[] = [];
      for (const [order, priority] of commands.entries()) {
        if (priority === null) {
          model.sort((a, b) => b.priority - a.priority || a.order - b.order);
          expect(queue.shift()).toEqual(model.shift());
        } else {
          queue.push({ priority, order }, priority);
          model.push({ priority, order });
        }
        expect(queue.size).toBe(model.length);
        if (model.length > 0) expect(queue.highest).toBe(Math.max(...model.map((item) => item.priority)));
      }
      model.sort((a, b) => b.priority - a.priority || a.order - b.order);
      expect(queue.drain()).toEqual(model);
      expect(queue.size).toBe(0);
    }),
  );
});

test('what matches is taken out, and the rest keeps its order', () => {
  const queue = new PriorityQueue<number>();
  for (let item = 0; item < 10; item++) queue.push(item, item % 2);
  expect(queue.remove((item) => item % 3 === 0)).toEqual([3, 9, 0, 6]);
  expect(queue.size).toBe(6);
  expect(queue.drain()).toEqual([1, 5, 7, 2, 4, 8]);
});

test('what is less urgent waits for a bounded number of others, each priority in its turn', () => {
  const queue = new PriorityQueue<string>();
  for (let item = 0; item < 20; item++) {
    queue.push('low', -1);
    queue.push('usual', 0);
  }
  const taken: string[] = [];
  // As many urgent ones come as are taken.
  for (let at = 0; at < 4 * (PASSED_OVER_MAX + 1); at++) {
    queue.push('high', 50);
    expect(queue.peek()).toBe(queue.peek());
    const next = queue.peek();
    const item = queue.shift();
    expect(item).toBe(next);
    taken.push(item ?? '');
  }
  const others = taken.flatMap((item, at) => (item === 'high' ? [] : [[at, item]]));
  expect(others.map(([at]) => at)).toEqual([1, 2, 3, 4].map((n) => n * (PASSED_OVER_MAX + 1) - 1));
  expect(others.map(([, item]) => item).toSorted()).toEqual(['low', 'low', 'usual', 'usual']);
});

test('what is put back comes before all of its priority, in the order that it had', () => {
  const queue = new PriorityQueue<number>();
  for (const item of [1, 2, 3, 4]) queue.push(item, 0);
  const [first, second] = [queue.shift(), queue.shift()];
  queue.push(10, 1);
  for (const item of [second, first]) queue.putBack(item as number, 0);
  expect(queue.size).toBe(5);
  expect([queue.shift(), queue.shift(), queue.shift(), queue.shift(), queue.shift()]).toEqual([10, 1, 2, 3, 4]);
  // Also where the queue was emptied, and of a priority that is gone.
  queue.putBack(7, 3);
  queue.push(8, 3);
  expect(queue.highest).toBe(3);
  expect(queue.drain()).toEqual([7, 8]);
});
