import { expect, test } from 'vitest';
import { scriptedTerminal } from '../scripted-terminal.ts';
import { createDisplay, figuresTable } from './display.ts';
import type { ReceiverFigures } from './figures.ts';

const figures: ReceiverFigures[] = [
  {
    name: 'healthy',
    habit: '',
    events: 1200,
    delivered: 1200,
    retried: 0,
    waiting: 0,
    scheduled: 0,
    dead: 0,
    last: '200 in 3 ms',
  },
  {
    name: 'dead',
    habit: '',
    events: 1200,
    delivered: 0,
    retried: 90,
    waiting: 5,
    scheduled: 5,
    dead: 25,
    last: 'a\u001b[31m reset',
  },
];

test('numbers stand under each other, and what a receiver said cannot steer the terminal', () => {
  expect(figuresTable(figures)).toEqual([
    'receiver  events  delivered  retried  waiting  dead  last answer',
    'healthy     1200       1200        0        0     0  200 in 3 ms',
    'dead        1200          0       90        5    25  a\\u001b[31m reset',
  ]);
});

test('on a terminal the table is drawn over the one before, and no line wraps', () => {
  const terminal = { ...scriptedTerminal(), isInteractive: true, width: () => 40 };
  const display = createDisplay(terminal);
  display.show(figures, 1.2);
  const first = terminal.output();
  expect(first).not.toContain('\u001b');
  expect(first.split('\n').every((line) => line.length < 40)).toBe(true);
  display.show(figures, 1.7);
  expect(terminal.output().slice(first.length)).toBe(`\u001b[4A\u001b[J${first}`);
});

test('in a pipe it is one line each time, without escape sequences', () => {
  const terminal = scriptedTerminal();
  createDisplay(terminal).show(figures, 3.9);
  expect(terminal.output()).toBe(
    '3 s  healthy: 1200 of 1200 delivered, 0 retried, 0 waiting, 0 dead  |  dead: 0 of 1200 delivered, 90 retried, 5 waiting, 25 dead\n',
  );
});
