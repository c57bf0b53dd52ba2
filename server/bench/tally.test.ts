import { expect, test } from 'vitest';
import { Tally } from './tally.ts';

const RUN = 3;

function tallyOf(arrivals: { webhook?: number; sequence: number; run?: number }[], webhooks = 1): Tally {
  const tally = new Tally({ run: RUN, eventsMax: 10, webhooks });
  arrivals.forEach(({ webhook = 0, sequence, run = RUN }, index) => {
    tally.record(webhook, { run, sequence, sentUs: 1000 }, 2000 + index * 1000);
  });
  return tally;
}

test('each event once at each webhook is complete', () => {
  const arrivals = [0, 1, 2].flatMap((sequence) => [0, 1].map((webhook) => ({ sequence, webhook })));
  const report = tallyOf(arrivals, 2).report(3, new Set());
  expect(report).toMatchObject({ expected: 6, arrived: 6, missing: 0, duplicates: 0, strays: 0, lastArrivalUs: 7000 });
  expect(report.latency).toEqual({ p50: 3, p95: 6, p99: 6, max: 6 });
});

test('a missing delivery is not made up for by one that came twice', () => {
  const report = tallyOf([{ sequence: 0 }, { sequence: 0 }, { sequence: 2 }]).report(3, new Set());
  expect(report).toMatchObject({ expected: 3, arrived: 2, missing: 1, duplicates: 1, strays: 0 });
});

test('a refused event need not arrive, and must not', () => {
  const complete = tallyOf([{ sequence: 0 }, { sequence: 2 }]).report(3, new Set([1]));
  expect(complete).toMatchObject({ expected: 2, missing: 0, strays: 0 });
  const uninvited = tallyOf([{ sequence: 0 }, { sequence: 1 }, { sequence: 2 }]).report(3, new Set([1]));
  expect(uninvited).toMatchObject({ expected: 2, missing: 0, strays: 1 });
});

test('what belongs to no event of the run is a stray', () => {
  const tally = tallyOf([
    { sequence: 0, run: RUN - 1 },
    { sequence: 10 },
    { sequence: 0, webhook: 1 },
    { sequence: 0, webhook: Number.NaN },
    { sequence: 5 },
  ]);
  tally.record(0, undefined, 2000);
  expect(tally.report(1, new Set())).toMatchObject({ expected: 1, missing: 1, strays: 6 });
});

test('a run in which nothing arrived has no latency', () => {
  expect(tallyOf([]).report(0, new Set())).toMatchObject({ expected: 0, missing: 0, latency: undefined });
});
