import { beforeEach, describe, expect, test } from 'vitest';
import type { DeliveryTask } from '../task.ts';
import { KeySequences, type OrderedTask, PARKED_KEYS_MAX } from './key-sequences.ts';

let sequences: KeySequences;
beforeEach(() => {
  sequences = new KeySequences();
});

const task = (orderNumber: number, orderingKey = 'key') =>
  ({ id: `${orderingKey}-${orderNumber}`, orderingKey, orderNumber }) as OrderedTask;

test('of each key one is let through, and the next when it has ended', () => {
  const [first, second, other] = [task(1), task(2), task(3, 'other')];
  expect([first, second, other].map((each) => sequences.admit(each))).toEqual(['first', 'behind', 'first']);
  expect(sequences.ended(first)).toEqual({ next: second, release: false });
  expect(sequences.ended(second)).toEqual({ next: undefined, release: false });
  expect(sequences.admit(task(4))).toBe('first');
});

test('those that come out of their order are put in it', () => {
  for (const number of [1, 5, 3, 4]) sequences.admit(task(number));
  expect(sequences.remove(() => true).map(({ orderNumber }) => orderNumber)).toEqual([3, 4, 5]);
});

test('what stands behind a delivery that must wait is parked, and released when that has ended', () => {
  const [first, second] = [task(1), task(2)];
  sequences.admit(first);
  sequences.admit(second);
  expect(sequences.blocked(first)).toEqual([second]);
  expect(sequences.stalledKeys).toEqual([]);
  expect(sequences.returned(second)).toBe(false);
  expect(sequences.stalledKeys).toEqual(['key']);
  sequences.claimBegins();
  const again = task(1);
  expect(sequences.admit(again)).toBe('first');
  expect(sequences.ended(again)).toEqual({ next: undefined, release: true });
});

describe('a claim sees rows as they were when it began', () => {
  test('what it brings behind a delivery that returned since then is parked', () => {
    const first = task(1);
    sequences.admit(first);
    sequences.claimBegins();
    sequences.blocked(first);
    expect(sequences.admit(task(2))).toBe('park');
    // The delivery itself is let through, should the claim have brought it too.
    expect(sequences.admit(task(1))).toBe('first');
  });

  test('a later claim has seen it wait', () => {
    const first = task(1);
    sequences.admit(first);
    sequences.blocked(first);
    sequences.claimBegins();
    expect(sequences.admit(task(2))).toBe('first');
  });

  test('nothing passes one that is just being parked, and the key goes on when it is', () => {
    const [first, second] = [task(1), task(2)];
    sequences.admit(first);
    sequences.admit(second);
    sequences.blocked(first);
    sequences.claimBegins();
    const again = task(1);
    sequences.admit(again);
    expect(sequences.ended(again)).toEqual({ next: undefined, release: false });
    const third = task(3);
    expect(sequences.admit(third)).toBe('park');
    expect(sequences.returned(second)).toBe(false);
    expect(sequences.returned(third)).toBe(true);
  });
});

test('one that was taken out of the hands without being sent lets the key begin anew', () => {
  const [first, second] = [task(1), task(2)];
  sequences.admit(first);
  sequences.admit(second);
  expect(sequences.drain(new Set<DeliveryTask>([first]))).toEqual([second]);
  expect(sequences.isActive('key')).toBe(false);
  expect(sequences.admit(task(1))).toBe('first');
});

test('one that is under way keeps its place when the others are taken out', () => {
  const [first, second] = [task(1), task(2)];
  sequences.admit(first);
  sequences.admit(second);
  expect(sequences.drain(new Set())).toEqual([second]);
  expect(sequences.admit(task(2))).toBe('behind');
});

test('the end of one that was replaced by a newer copy of it changes nothing', () => {
  const [old, copy] = [task(1), task(1)];
  sequences.admit(old);
  expect(sequences.admit(copy)).toBe('first');
  expect(sequences.blocked(old)).toEqual([]);
  expect(sequences.admit(task(2))).toBe('behind');
});

describe('keys that are parked', () => {
  const parkMany = (count: number) => {
    for (let n = 0; n < count; n++) sequences.noteParked(`parked-${n}`);
  };

  test('are remembered up to a bound, and beyond it the end of any delivery has parked rows looked for', () => {
    parkMany(PARKED_KEYS_MAX);
    expect(sequences.knowsAllParked).toBe(true);
    const before = task(1);
    sequences.admit(before);
    expect(sequences.ended(before).release).toBe(false);
    parkMany(PARKED_KEYS_MAX + 1);
    expect(sequences.knowsAllParked).toBe(false);
    expect(sequences.stalledKeys).toHaveLength(PARKED_KEYS_MAX);
    const after = task(2);
    sequences.admit(after);
    expect(sequences.ended(after).release).toBe(true);
  });

  test('are all known again when a search for them has found no more than are remembered', () => {
    parkMany(PARKED_KEYS_MAX + 1);
    sequences.searchBegins();
    parkMany(PARKED_KEYS_MAX + 1);
    sequences.searchEnds();
    expect(sequences.knowsAllParked).toBe(false);
    sequences.forgetParked('parked-0');
    sequences.searchBegins();
    sequences.noteParked(`parked-${PARKED_KEYS_MAX}`);
    sequences.searchEnds();
    expect(sequences.knowsAllParked).toBe(true);
  });

  test('are not forgotten while a delivery of theirs is in memory', () => {
    const first = task(1);
    sequences.admit(first);
    sequences.noteParked('key');
    sequences.forgetParked('key');
    expect(sequences.ended(first).release).toBe(true);
  });
});
