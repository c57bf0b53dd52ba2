import { expect, test } from 'vitest';
import { CircuitWindow } from './circuit-window.ts';

const rule = { failureRate: 0.5, minimumRequests: 10, windowMs: 60_000 };

test('opens when the share of failures reaches the rate, not before there are enough attempts', () => {
  const window = new CircuitWindow();
  for (let n = 0; n < 9; n++) expect(window.count(rule, true, 1_000)).toBe(false);
  expect(window.count(rule, true, 1_000)).toBe(true);
  const half = new CircuitWindow();
  for (let n = 0; n < 10; n++) expect(half.count(rule, false, 1_000)).toBe(false);
  for (let n = 0; n < 9; n++) expect(half.count(rule, true, 1_000)).toBe(false);
  expect(half.count(rule, true, 1_000)).toBe(true);
});

test('what is older than the window does not count', () => {
  const window = new CircuitWindow();
  for (let n = 0; n < 9; n++) window.count(rule, true, 5_000);
  expect(window.count(rule, true, 75_000)).toBe(false);
  expect(window.isSpent(60_000, 76_000)).toBe(false);
  expect(window.isSpent(60_000, 140_000)).toBe(true);
});

test('failures spread over the window are added up', () => {
  const window = new CircuitWindow();
  for (let n = 0; n < 9; n++) expect(window.count(rule, true, n * 5_000)).toBe(false);
  expect(window.count(rule, true, 45_000)).toBe(true);
});

test('a clock that steps back neither forgets nor fails', () => {
  const window = new CircuitWindow();
  for (let n = 0; n < 9; n++) window.count(rule, true, 100_000);
  expect(window.count(rule, true, 20_000)).toBe(true);
});
