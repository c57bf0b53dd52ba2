import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { Fifo } from './fifo.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

test('what was taken is not held on to, however few were taken', async () => {
  const fifo = new Fifo<{ n: number }>();
  // In a function of its own, whose variables are gone afterwards.
  const fill = () =>
    Array.from({ length: 10 }, (_, n) => {
      const item = { n };
      fifo.push(item);
      return new WeakRef(item);
    });
  const items = fill();
  const take = () => fifo.shift()?.n;
  expect([take(), take(), take(), take()]).toEqual([0, 1, 2, 3]);
  // What a reference was asked for, or made of, stays until the end of the turn.
  await nextTurn();
  collectGarbage();
  expect(items.flatMap((item) => item.deref()?.n ?? [])).toEqual([4, 5, 6, 7, 8, 9]);
});

test('one that was put back comes first, at its place or before all', () => {
  const fifo = new Fifo<string>();
  fifo.unshift('b');
  fifo.push('c');
  fifo.unshift('a');
  expect([fifo.shift(), fifo.first, fifo.size]).toEqual(['a', 'b', 2]);
  fifo.unshift('a');
  expect(fifo.remove((item) => item === 'b')).toEqual(['b']);
  expect([fifo.drain(), fifo.size, fifo.shift()]).toEqual([['a', 'c'], 0, undefined]);
});
