import { setTimeout as sleep } from 'node:timers/promises';

/** Asks again and again until it holds or time is up; says whether it holds. */
export async function until(condition: () => Promise<boolean>, msMax: number, pollMs = 20): Promise<boolean> {
  const lastMs = performance.now() + msMax;
  while (!(await condition())) {
    if (performance.now() > lastMs) return false;
    await sleep(pollMs);
  }
  return true;
}
