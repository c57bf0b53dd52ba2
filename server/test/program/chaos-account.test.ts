import { expect, test } from 'vitest';
import {
  findRepeats,
  type Kill,
  overdrawnKills,
  sentAfterRecord,
  sentAfterSuccess,
  sentAtOnce,
  sentOutOfOrder,
} from './chaos-account.ts';
import type { Arrival } from './ledger.ts';

const arrival = (atMs: number, changes: Partial<Arrival> = {}): Arrival => ({
  event: 1,
  attempt: 1,
  life: 1,
  path: '/a',
  status: 200,
  atMs,
  answeredAtMs: atMs + 5,
  ...changes,
});

/** A kill at 10,000 with these on record. */
const kill = (attempts: string[] = [], changes: Partial<Kill> = {}): Kill => ({
  beganAtMs: 10_000,
  endedAtMs: 10_020,
  ofSender: true,
  record: { atMs: 9_990, attempts: new Set(attempts), delivered: new Set() },
  ...changes,
});

const [before, after] = [arrival(9_980), arrival(12_000)];

test.each([
  ['an attempt that was not on record at a kill', [kill()], true],
  ['one that was', [kill(['/a 1#1'])], false],
  ['one that came without a kill', [], false],
  ['one that came after PostgreSQL alone was killed', [kill([], { ofSender: false })], false],
  ['one before the kill', [kill([], { beganAtMs: 12_500, endedAtMs: 12_510 })], false],
])('a repeat is explained, or not: %s', (_name, kills, explained) => {
  const repeats = findRepeats([before, after], kills);
  expect(repeats).toEqual([{ name: '/a 1#1', earlier: before, later: after, kill: explained ? kills[0] : undefined }]);
  expect(sentAfterSuccess([before, after], kills)).toEqual(explained ? [] : [after]);
});

test('another attempt after a success is never explained, and one after a failure need not be', () => {
  const next = { ...after, attempt: 2 };
  expect(findRepeats([before, next], [kill()])).toEqual([]);
  expect(sentAfterSuccess([before, next], [kill()])).toEqual([next]);
  expect(sentAfterSuccess([{ ...before, status: 503 }, next], [])).toEqual([]);
});

test('a kill explains an attempt once, and no more than may have been under way at it', () => {
  const one = kill();
  const overdrawn = (arrivals: Arrival[], inFlightMax: number) =>
    overdrawnKills(findRepeats(arrivals, [one]), [one], inFlightMax).length;
  expect(overdrawn([before, after], 1)).toBe(0);
  expect(overdrawn([before, arrival(10_500), after], 9)).toBe(1);
  const both = [one, kill([], { beganAtMs: 10_700, endedAtMs: 10_720 })];
  expect(overdrawnKills(findRepeats([before, arrival(10_500), after], both), both, 9)).toEqual([]);
  expect(overdrawnKills(findRepeats([before, arrival(10_500), arrival(10_600), after], both), both, 9)).toHaveLength(1);
  const open = [1, 2].map((event) => arrival(9_999, { event, answeredAtMs: undefined }));
  const again = [1, 2].map((event) => arrival(12_000, { event }));
  expect([overdrawn([...open, ...again], 2), overdrawn([...open, ...again], 1)]).toEqual([0, 1]);
});

test('nothing may come once a success was on record before a kill', () => {
  const record = { atMs: 9_990, attempts: new Set<string>(), delivered: new Set(['/a 1']) };
  expect(sentAfterRecord([before, after, arrival(12_000, { event: 2 })], [kill([], { record })])).toEqual([after]);
});

test('in an order an event may come when those of its key that were accepted before it have succeeded', () => {
  const order = [
    { key: 'x', event: 1, begunAtMs: 10, acceptedAtMs: 20 },
    { key: 'y', event: 2, begunAtMs: 30, acceptedAtMs: 40 },
    { key: 'x', event: 3, begunAtMs: 50, acceptedAtMs: undefined },
  ];
  const failed = arrival(100, { status: 503 });
  expect(sentOutOfOrder([failed, arrival(101, { event: 2 }), arrival(110), arrival(115, { event: 3 })], order)).toEqual(
    [],
  );
  expect(sentOutOfOrder([failed, arrival(110), arrival(114, { event: 3 })], order)).toEqual([3]);
  expect(sentOutOfOrder([failed, arrival(110, { event: 3 })], order)).toEqual([3]);
  const [first, other, last] = order as [(typeof order)[0], (typeof order)[0], (typeof order)[0]];
  for (const atOnce of [
    { ...first, acceptedAtMs: 50 },
    { ...first, acceptedAtMs: undefined },
  ]) {
    expect(sentOutOfOrder([failed, arrival(110, { event: 3 })], [atOnce, other, last])).toEqual([]);
  }
});

test('two are under way at once unless the first was answered, or its sender killed', () => {
  const open = arrival(9_990, { answeredAtMs: undefined });
  expect(sentAtOnce([arrival(100), arrival(105)], [])).toEqual([]);
  expect(sentAtOnce([arrival(100), arrival(104)], [])).toHaveLength(1);
  expect(sentAtOnce([open, after], [])).toHaveLength(1);
  expect(sentAtOnce([open, after], [kill()])).toEqual([]);
});
