import { expect, test } from 'vitest';
import { type Publishes, Tally, type TallyOptions } from './tally.ts';

const RUN = 3;

interface Arrival {
  webhook?: number;
  sequence: number;
  run?: number;
}

function arrive(tally: Tally, arrivals: Arrival[], firstMs = 2): void {
  arrivals.forEach(({ webhook = 0, sequence, run = RUN }, index) => {
    tally.record(webhook, { run, sequence, sentUs: 1000 }, (firstMs + index) * 1000);
  });
}

function tallyOf(arrivals: Arrival[], options: Partial<TallyOptions> = {}): Tally {
  const tally = new Tally({ run: RUN, eventsMax: 10, webhooks: 1, byTurns: false, ...options });
  arrive(tally, arrivals);
  return tally;
}

function sent(published: number, failed: Partial<Publishes> = {}): Publishes {
  return { published, refused: [], unanswered: [], ...failed };
}

test('each event once at each webhook is complete', () => {
  const arrivals = [0, 1, 2].flatMap((sequence) => [0, 1].map((webhook) => ({ sequence, webhook })));
  const report = tallyOf(arrivals, { webhooks: 2 }).report(sent(3));
  expect(report).toMatchObject({ expected: 6, arrived: 6, missing: 0, duplicates: 0, strays: 0, lastArrivalUs: 7000 });
  expect(report.latency).toEqual({ p50: 3, p95: 6, p99: 6, max: 6 });
});

test('by turns each event goes to one webhook, and nowhere else', () => {
  const options = { webhooks: 2, byTurns: true };
  const right = [0, 1, 2].map((sequence) => ({ sequence, webhook: sequence % 2 }));
  expect(tallyOf(right, options).report(sent(3))).toMatchObject({ expected: 3, arrived: 3, missing: 0, strays: 0 });
  const wrong = tallyOf([{ sequence: 0, webhook: 1 }], options).report(sent(1));
  expect(wrong).toMatchObject({ expected: 1, arrived: 0, missing: 1, strays: 1 });
});

test('a missing delivery is not made up for by one that came twice', () => {
  const report = tallyOf([{ sequence: 0 }, { sequence: 0 }, { sequence: 2 }]).report(sent(3));
  expect(report).toMatchObject({ expected: 3, arrived: 2, missing: 1, duplicates: 1, strays: 0 });
});

test('a refused event need not arrive, and must not', () => {
  const complete = tallyOf([{ sequence: 0 }, { sequence: 2 }]).report(sent(3, { refused: [1] }));
  expect(complete).toMatchObject({ expected: 2, missing: 0, strays: 0 });
  const uninvited = tallyOf([{ sequence: 0 }, { sequence: 1 }, { sequence: 2 }]).report(sent(3, { refused: [1] }));
  expect(uninvited).toMatchObject({ expected: 2, missing: 0, strays: 1 });
});

test('an unanswered event may arrive, need not, and must not come twice', () => {
  const publishes = sent(2, { unanswered: [1] });
  expect(tallyOf([{ sequence: 0 }]).report(publishes)).toMatchObject({ expected: 1, missing: 0, strays: 0 });
  const both = tallyOf([{ sequence: 0 }, { sequence: 1 }, { sequence: 1 }]).report(publishes);
  expect(both).toMatchObject({ expected: 1, arrived: 2, missing: 0, duplicates: 1, strays: 0 });
});

test('a delivery may come again in the next life of the sender, once', () => {
  const tally = tallyOf([{ sequence: 0 }, { sequence: 1 }]);
  tally.beginLife();
  arrive(tally, [{ sequence: 1 }, { sequence: 2 }], 50);
  const once = tally.report(sent(3));
  expect(once).toMatchObject({ arrived: 3, missing: 0, duplicates: 0, repeats: 1 });
  expect(once).toMatchObject({ firstArrivalUs: 50_000, lastArrivalUs: 51_000 });
  arrive(tally, [{ sequence: 1 }], 60);
  expect(tally.report(sent(3))).toMatchObject({ arrived: 3, duplicates: 1, repeats: 1, lastArrivalUs: 51_000 });
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
  expect(tally.report(sent(1))).toMatchObject({ expected: 1, missing: 1, strays: 6 });
});

test('a run in which nothing arrived has no latency', () => {
  expect(tallyOf([]).report(sent(0))).toMatchObject({ expected: 0, missing: 0, latency: undefined });
});
