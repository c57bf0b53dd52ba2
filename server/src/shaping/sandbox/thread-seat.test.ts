import { expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { createProgram } from '../program.ts';
import { type Outcome, ThreadSeat } from './thread-seat.ts';

test('orders of a thread that never comes to one fail for no fault of theirs, after some threads', async () => {
  let ended = 0;
  const seat = new ThreadSeat({
    clock: systemClock,
    // Nothing of this is an engine.
    minijinja: () => new WebAssembly.Module(Buffer.from([0, 97, 115, 109, 1, 0, 0, 0])),
    givesWay: false,
    ordersAtOnce: 2,
    onEnded: () => {
      ended += 1;
    },
  });
  const program = createProgram({ language: 'jinja', template: '{{ 1 + 1 }}', native: false, json: true }, []);
  const input = { eventType: 'a.b', eventId: 'e', timestamp: '', data: '{}', metadata: null, attempt: 1 };
  const order = (given: typeof input | null) =>
    new Promise<Outcome>((onDone) => seat.add({ owners: ['acme'], program, input: given, onDone }));
  const outcomes = await Promise.all([order(input), order(input), order(null)]);
  expect(outcomes).toMatchObject([
    { kind: 'run', result: { ok: false, fault: { kind: 'unavailable' } } },
    { kind: 'run', result: { ok: false, fault: { kind: 'unavailable' } } },
    { kind: 'check', fault: { kind: 'unavailable' } },
  ]);
  expect(ended).toBe(3);
  expect(seat).toMatchObject({ waiting: 0, threads: 0 });
  await seat.stop();
});
