import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { judge, type RuleTerms, type Sample, type State, stateAfterResolving, termsOf } from './judge.ts';
import { readPeriod, showPeriod } from './period.ts';

const RATE: RuleTerms = {
  metric: 'delivery_failure_rate',
  threshold: 10,
  resolveThreshold: null,
  periodSeconds: 300,
  forSeconds: null,
  minimumSamples: null,
};
const BACKLOG: RuleTerms = { ...RATE, metric: 'queue_backlog', threshold: 1_000, periodSeconds: 60 };

/** Looks at one subject again and again. */
function watch(rule: RuleTerms) {
  const terms = termsOf(rule);
  let state: State | undefined;
  const told: string[] = [];
  return {
    told,
    look(nowSeconds: number, value: number | null, samples = 100) {
      const verdict = judge(terms, state, { value, samples }, nowSeconds * 1_000);
      if (verdict.kind === 'fire') {
        told.push(`${nowSeconds} fired`);
        state = { ...verdict.state, incidentId: 'inc' };
      } else if (verdict.kind === 'resolve') {
        told.push(`${nowSeconds} resolved`);
        state = undefined;
      } else state = verdict.kind === 'well' ? undefined : verdict.state;
    },
    resolveByHand(nowSeconds: number) {
      state = stateAfterResolving(terms, rule.periodSeconds, nowSeconds * 1_000);
    },
  };
}

describe('a rate', () => {
  test('fires at its threshold at once, since it is of a period already', () => {
    const rule = watch(RATE);
    rule.look(0, 9.9);
    rule.look(10, 10);
    rule.look(20, 50);
    expect(rule.told).toEqual(['10 fired']);
  });

  test('says nothing of few attempts', () => {
    const rule = watch(RATE);
    rule.look(0, 100, 9);
    rule.look(10, null, 0);
    expect(rule.told).toEqual([]);
    const lenient = watch({ ...RATE, minimumSamples: 1 });
    lenient.look(0, 100, 1);
    expect(lenient.told).toEqual(['0 fired']);
  });

  test('is resolved when it was a tenth below the threshold for five minutes', () => {
    const rule = watch(RATE);
    rule.look(0, 20);
    rule.look(10, 8);
    rule.look(300, 8);
    expect(rule.told).toEqual(['0 fired']);
    rule.look(310, 8);
    expect(rule.told).toEqual(['0 fired', '310 resolved']);
  });

  test('does not flap when it swings about the threshold', () => {
    const rule = watch(RATE);
    for (let seconds = 0; seconds < 3_600; seconds += 10) rule.look(seconds, seconds % 20 === 0 ? 10.5 : 9.5);
    expect(rule.told).toEqual(['0 fired']);
  });

  test('stays firing for a while when nothing is sent any more', () => {
    const rule = watch(RATE);
    rule.look(0, 100);
    rule.look(10, null, 0);
    rule.look(900, null, 0);
    expect(rule.told).toEqual(['0 fired']);
    rule.look(910, null, 0);
    expect(rule.told).toEqual(['0 fired', '910 resolved']);
  });
});

describe('a level', () => {
  test('fires after a whole period, without a break', () => {
    const rule = watch(BACKLOG);
    rule.look(0, 1_000, 0);
    rule.look(50, 2_000, 0);
    rule.look(55, 999, 0);
    rule.look(60, 2_000, 0);
    rule.look(119, 2_000, 0);
    expect(rule.told).toEqual([]);
    rule.look(120, 2_000, 0);
    expect(rule.told).toEqual(['120 fired']);
  });

  test('fires at once with a `for` of nothing', () => {
    const rule = watch({ ...BACKLOG, forSeconds: 0 });
    rule.look(0, 1_000, 0);
    expect(rule.told).toEqual(['0 fired']);
  });
});

test('what a person has resolved fires again after a period when it goes on, neither at once nor never', () => {
  for (const terms of [RATE, BACKLOG]) {
    const rule = watch(terms);
    for (let seconds = 0; seconds <= 60; seconds += 10) rule.look(seconds, 5_000);
    const [fired] = rule.told;
    rule.resolveByHand(100);
    for (let seconds = 110; seconds < 800; seconds += 10) rule.look(seconds, 5_000);
    expect(rule.told).toEqual([fired, `${100 + terms.periodSeconds} fired`]);
  }
});

test('whatever is measured, it fires and is resolved in turn, and never twice within a hold time', () => {
  const sample = fc.record({
    value: fc.option(fc.double({ min: 0, max: 100, noNaN: true })),
    samples: fc.integer({ min: 0, max: 20 }),
  });
  fc.assert(
    fc.property(fc.array(sample, { maxLength: 300 }), (samples: Sample[]) => {
      const rule = watch(RATE);
      for (const [at, { value, samples: count }] of samples.entries()) rule.look(at * 15, value, count);
      const times = rule.told.map((text) => Number(text.split(' ')[0]));
      for (const [at, text] of rule.told.entries()) expect(text).toMatch(at % 2 === 0 ? /fired/ : /resolved/);
      for (let at = 1; at < times.length; at += 2) expect(times[at]).toBeGreaterThanOrEqual((times[at - 1] ?? 0) + 300);
    }),
  );
});

test.each([
  ['30s', 30],
  ['5m', 300],
  ['1h', 3_600],
  ['1d', 86_400],
  ['90s', 90],
])('%s is %i seconds', (text, seconds) => {
  expect(readPeriod(text)).toBe(seconds);
  expect(showPeriod(seconds)).toBe(text);
});

test.each(['', 'm', '5', '5 m', '-5m', '5M', '1.5m', '5mm', '１m'])('%j is no period', (text) => {
  expect(readPeriod(text)).toBeUndefined();
});
