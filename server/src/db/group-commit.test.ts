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

interface UnderWay {
  items: number[];
  end: () => void;
}

function openPaced() {
  const clock = new ManualClock();
  const begun: UnderWay[] = [];
  const group = new GroupCommit<number>({
    weightMax: 1_000,
    pace: { clock, commits: 2, everyMs: 8 },
    commit: (items) => new Promise((resolve) => begun.push({ items, end: resolve })),
  });
  const turn = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  return { clock, begun, group, turn, batches: () => begun.map(({ items }) => items) };
}

test('with a pace an item does not wait for the whole of a commit under way, but for one of as many as may be', async () => {
  const { clock, begun, group, turn, batches } = openPaced();
  group.add(1);
  await turn();
  group.add(2);
  clock.advance(7);
  await turn();
  expect(batches()).toEqual([[1]]);
  clock.advance(1);
  await turn();
  group.add(3);
  group.add(4);
  clock.advance(20);
  await turn();
  expect(batches()).toEqual([[1], [2]]);
  begun[1]?.end();
  await turn();
  expect(batches()).toEqual([[1], [2], [3, 4]]);
  let idle = false;
  void group.whenIdle().then(() => {
    idle = true;
  });
  begun[0]?.end();
  await turn();
  expect(idle).toBe(false);
  begun[2]?.end();
  await turn();
  expect(idle).toBe(true);
});

test('with a pace, commits of many items begin so far apart that each is worth it, those of few at once', async () => {
  const { clock, begun, group, turn, batches } = openPaced();
  for (const item of [1, 2, 3, 4]) group.add(item);
  await turn();
  begun[0]?.end();
  await turn();
  group.add(5);
  clock.advance(7);
  await turn();
  expect(batches()).toEqual([[1, 2, 3, 4]]);
  clock.advance(1);
  await turn();
  expect(batches()).toEqual([[1, 2, 3, 4], [5]]);
  begun[1]?.end();
  await turn();
  group.add(6);
  await turn();
  expect(batches()).toEqual([[1, 2, 3, 4], [5], [6]]);
});

test('with a pace, enough items for a commit wait for no time', async () => {
  const { group, turn, batches } = openPaced();
  const items = (from: number, count: number) => Array.from({ length: count }, (_, at) => from + at);
  for (const item of items(0, 4)) group.add(item);
  await turn();
  for (const item of items(4, 255)) group.add(item);
  await turn();
  expect(batches()).toEqual([items(0, 4)]);
  group.add(259);
  await turn();
  expect(batches()).toEqual([items(0, 4), items(4, 256)]);
});
