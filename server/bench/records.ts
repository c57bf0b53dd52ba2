import { setTimeout as sleep } from 'node:timers/promises';
import { type DeliveryRecords, describeUndelivered, recordsOf } from './database.ts';
import type { Posthorn } from './posthorn.ts';

const RECORDED_MS_MAX = 15_000;
const POLL_MS = 100;

/** What the rows say of all these webhooks together. */
export async function totalRecords(posthorn: Posthorn, webhookIds: readonly string[]): Promise<DeliveryRecords> {
  const records = await posthorn.database((client) => recordsOf(client, webhookIds));
  const total: DeliveryRecords = { delivered: 0, waiting: 0, givenUp: 0, attempts: 0 };
  for (const record of records.values()) {
    total.delivered += record.delivered;
    total.waiting += record.waiting;
    total.givenUp += record.givenUp;
    total.attempts += record.attempts;
  }
  return total;
}

/**
 * Holds the rows against what arrived. Results are recorded a moment after the delivery, so it asks until they agree, or
 * time is up.
 *
 * @returns what is wrong, and how many attempts failed and were made again.
 */
export async function compareRecords(
  posthorn: Posthorn,
  webhookIds: readonly string[],
  expected: { delivered: number; waiting: number },
): Promise<{ faults: string[]; failedAttempts: number }> {
  const lastMs = performance.now() + RECORDED_MS_MAX;
  for (;;) {
    const { delivered, waiting, givenUp, attempts } = await totalRecords(posthorn, webhookIds);
    const agrees = delivered === expected.delivered && waiting === expected.waiting && givenUp === 0;
    if (agrees) return { faults: [], failedAttempts: attempts - delivered };
    if (performance.now() > lastMs) {
      const is = `${delivered} delivered, ${waiting} waiting and ${givenUp} given up`;
      const due = `${expected.delivered} delivered and ${expected.waiting} waiting`;
      const undelivered = await posthorn.database((client) => describeUndelivered(client, webhookIds));
      const fault = `on record are ${is} deliveries; it should be ${due}. Not delivered: ${undelivered}`;
      return { faults: [fault], failedAttempts: 0 };
    }
    await sleep(POLL_MS);
  }
}
