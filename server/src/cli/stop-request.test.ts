import { expect, test } from 'vitest';
import type { Clock } from '../kernel/clock.ts';
import { scriptedTerminal } from './scripted-terminal.ts';
import { awaitStop } from './stop-request.ts';

function movableClock(): Clock & { move(ms: number): void } {
  let nowMs = 0;
  return {
    now: () => nowMs,
    monotonicMs: () => nowMs,
    after: () => () => {},
    move: (ms) => {
      nowMs += ms;
    },
  };
}

test('the first signal asks for a stop, once, and the process goes on', async () => {
  const terminal = scriptedTerminal({ clock: movableClock() });
  let asked = 0;
  const stop = awaitStop(terminal, () => {
    asked += 1;
  });
  expect(stop.signal.aborted).toBe(false);
  terminal.sendSignal('SIGTERM');
  await stop.requested;
  expect(stop.signal.aborted).toBe(true);
  expect(asked).toBe(1);
  expect(terminal.exits).toEqual([]);
});

test('one Ctrl-C that arrives from the terminal and from npm does not end the process', () => {
  const clock = movableClock();
  const terminal = scriptedTerminal({ clock });
  awaitStop(terminal);
  terminal.sendSignal('SIGINT');
  clock.move(100);
  terminal.sendSignal('SIGINT');
  expect(terminal.exits).toEqual([]);
});

test('a second Ctrl-C ends the process at once with 130', () => {
  const clock = movableClock();
  const terminal = scriptedTerminal({ clock });
  awaitStop(terminal);
  terminal.sendSignal('SIGINT');
  clock.move(1_000);
  terminal.sendSignal('SIGINT');
  expect(terminal.exits).toEqual([130]);
});

test('output that nobody reads any more asks for a stop, also when it was closed before', async () => {
  const terminal = scriptedTerminal();
  const stop = awaitStop(terminal);
  terminal.closeOutput();
  await stop.requested;
  await awaitStop(terminal).requested;
});

test('after dispose a signal does nothing', () => {
  const terminal = scriptedTerminal();
  const stop = awaitStop(terminal);
  stop.dispose();
  terminal.sendSignal('SIGINT');
  terminal.closeOutput();
  expect(stop.signal.aborted).toBe(false);
});
