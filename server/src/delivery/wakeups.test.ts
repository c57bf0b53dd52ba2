import { expect, test } from 'vitest';
import { ManualClock } from '../testing/manual-clock.ts';
import { Wakeups } from './wakeups.ts';

const setup = () => {
  const clock = new ManualClock();
  const woken: string[] = [];
  const wakeups = new Wakeups(clock, (keys) => woken.push(...keys));
  return { clock, woken, wakeups, in: (key: string, ms: number) => wakeups.set(key, clock.now() + ms) };
};

test('each key wakes once, when it is due and not before', () => {
  const { clock, woken, in: wakeIn } = setup();
  wakeIn('late', 300);
  wakeIn('early', 100);
  clock.advance(99);
  expect(woken).toEqual([]);
  clock.advance(1);
  expect(woken).toEqual(['early']);
  clock.advance(10_000);
  expect(woken).toEqual(['early', 'late']);
});

test('an earlier time replaces a later one, and a later one changes nothing', () => {
  const { clock, woken, in: wakeIn } = setup();
  wakeIn('a', 500);
  wakeIn('a', 100);
  wakeIn('a', 900);
  clock.advance(100);
  expect(woken).toEqual(['a']);
  clock.advance(10_000);
  expect(woken).toEqual(['a']);
});

test('there is one timer however many keys wait, and none when none does', () => {
  const { clock, wakeups, in: wakeIn } = setup();
  for (let n = 0; n < 1_000; n++) wakeIn(`key-${n}`, 1_000 - n);
  expect(clock.pending).toBe(1);
  wakeups.clear();
  expect(clock.pending).toBe(0);
});

test('a time that has passed wakes at once', () => {
  const { clock, woken, in: wakeIn } = setup();
  wakeIn('a', -5_000);
  clock.advance(0);
  expect(woken).toEqual(['a']);
});
