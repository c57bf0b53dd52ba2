import { expect, test } from 'vitest';
import { preferredNode } from './lane-owners.ts';

const webhooks = Array.from({ length: 3_000 }, (_, n) => `webhook-${n}`);

test('lanes are spread evenly over the nodes', () => {
  const counts = new Map<number | undefined, number>();
  for (const id of webhooks) {
    const node = preferredNode(id, [1, 2, 3]);
    counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  expect([...counts.keys()].sort()).toEqual([1, 2, 3]);
  for (const count of counts.values()) expect(count).toBeGreaterThan(850);
});

test('when a node goes only its own lanes move, and none else when one comes', () => {
  for (const id of webhooks) {
    const before = preferredNode(id, [1, 2, 3]);
    if (before !== 2) expect(preferredNode(id, [1, 3])).toBe(before);
    const after = preferredNode(id, [1, 2, 3, 4]);
    if (after !== 4) expect(after).toBe(before);
  }
});

test('every node comes to the same answer, whatever order it knows the nodes in', () => {
  for (const id of webhooks.slice(0, 100)) expect(preferredNode(id, [3, 1, 2])).toBe(preferredNode(id, [1, 2, 3]));
});
