import { expect, test } from 'vitest';
import { ManualClock } from '../testing/manual-clock.ts';
import { GroupCommit } from './group-commit.ts';

test('what arrives while a commit is under way goes into the next one, in order, each once', async () => {
  const commits: number[][] = [];
  const group = new GroupCommit<number>({
    weightMax: 100,
    commit: async (items) => {
      commits.push(items);
      if (commits.length === 1) for (const late of [4, 5, 6]) group.add(late);
      await new Promise((resolve) => setImmediate(resolve));
    },
  });
  for (const item of [1, 2, 3]) group.add(item);
  await group.whenIdle();
  expect(commits).toEqual([
    [1, 2, 3],
    [4, 5, 6],
  ]);
});

test('a commit takes items until their weight reaches the bound, and one that is heavier alone', async () => {
  const commits: number[][] = [];
  const group = new GroupCommit<number>({
    weightMax: 10,
    weigh: (item) => item,
    commit: async (items) => {
      commits.push(items);
    },
  });
  for (const item of [4, 4, 4, 50, 1]) group.add(item);
  await group.whenIdle();
  expect(commits).toEqual([[4, 4, 4], [50], [1]]);
});

test('it is idle before the first item and after the last commit', async () => {
  const group = new GroupCommit<number>({ weightMax: 1, commit: async () => {} });
  await group.whenIdle();
  group.add(1);
  await group.whenIdle();
  expect(group.waiting).toBe(0);
});

test('with parallel commits an item does not wait for the whole of one under way, and no slot is used twice at once', async () => {
  const clock = new ManualClock();
  const underWay: { items: number[]; slot: number; end: () => void }[] = [];
  const group = new GroupCommit<number>({
    weightMax: 100,
    parallel: { commits: 2, clock },
    commit: (items, slot) => new Promise((resolve) => underWay.push({ items, slot, end: resolve })),
  });
  const turn = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  group.add(1);
  await turn();
  group.add(2);
  await turn();
  expect(underWay).toHaveLength(1);
  clock.advance(3);
  await turn();
  group.add(3);
  group.add(4);
  await turn();
  expect(underWay.map(({ items }) => items)).toEqual([[1], [2]]);
  expect(underWay[0]?.slot).not.toBe(underWay[1]?.slot);
  underWay[1]?.end();
  await turn();
  expect(underWay.map(({ items }) => items)).toEqual([[1], [2], [3, 4]]);
  expect(underWay[2]?.slot).toBe(underWay[1]?.slot);
  let idle = false;
  void group.whenIdle().then(() => {
    idle = true;
  });
  underWay[0]?.end();
  await turn();
  expect(idle).toBe(false);
  underWay[2]?.end();
  await turn();
  expect(idle).toBe(true);
});
