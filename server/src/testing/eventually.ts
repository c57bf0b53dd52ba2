import { setTimeout as pause } from 'node:timers/promises';

/**
 * Asks until the answer passes `accept`, and returns it; after `withinMs` (10 s) the last answer is in the error. For
 * conditions that nothing announces; it returns as soon as they hold.
 */
export async function eventually<T>(
  ask: () => Promise<T>,
  accept: (answer: T) => boolean,
  withinMs = 10_000,
): Promise<T> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const answer = await ask();
    if (accept(answer)) return answer;
    if (performance.now() > deadline) throw new Error(`It did not come true in time: ${JSON.stringify(answer)}`);
    await pause(20);
  }
}
