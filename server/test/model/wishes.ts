import { retryNow } from '../../src/delivery/queries.ts';
import { cancelDelivery } from '../../src/delivery/recovery/cancel.ts';
import { runChunk } from '../../src/delivery/recovery/chunk.ts';
import { REPLAYABLE_STATUSES, type ReplayableStatus } from '../../src/delivery/recovery/filter.ts';
import { insertJob } from '../../src/delivery/recovery/jobs.ts';
import { type Command as RowCommand, statusesAllowing } from '../../src/delivery/transitions.ts';
import { erasePayload } from '../../src/events/erase-payload.ts';
import { AppError } from '../../src/kernel/errors.ts';
import { createLogger } from '../../src/kernel/logger.ts';
import { chosen } from './chosen.ts';
import { type DeliveryRow, hasEnded, readRows } from './row-checks.ts';
import type { System } from './system.ts';

/** What people ask of deliveries. `replay`: a job for all of the delivery's webhook that ended as it did. */
export type Wish = { do: 'retry' | 'replay' | 'cancel' | 'erase'; delivery: number };

/** Does it as the API does, and gives what it asked of rows. */
export async function wish(system: System, step: Wish): Promise<RowCommand[]> {
  const rows = await readRows(system);
  const { db, scope, now } = system;
  switch (step.do) {
    case 'retry': {
      // The API refuses it while the webhook is not active.
      const row = chosen(
        rows.filter(({ webhook_id }) =>
          system.webhooks.some(({ id, status }) => id === webhook_id && status === 'active'),
        ),
        step.delivery,
      );
      if (row === undefined) return [];
      if (hasEnded(row)) system.reopened.add(row.id);
      await retryNow(db, scope, row.id, now.getTime());
      return ['retry'];
    }
    case 'replay':
      return replay(system, rows, step.delivery);
    case 'cancel': {
      const row = chosen(
        rows.filter((each) => !hasEnded(each)),
        step.delivery,
      );
      if (row === undefined) return [];
      system.quiet = false;
      await cancelDelivery(db, scope, row.id, now).catch((error) => {
        // It has ended just before.
        if (!(error instanceof AppError)) throw error;
      });
      if (system.sound.length < system.nodes.length) system.unheard.add(row.id);
      for (const request of system.transport.underWay) {
        if (request.deliveryIds.includes(row.id)) request.cancelled.add(row.id);
      }
      return ['cancel'];
    }
    case 'erase': {
      const row = chosen(rows, step.delivery);
      if (row === undefined) return [];
      await erasePayload(db, scope, row.event_id, now);
      system.discards = true;
      return [];
    }
  }
}

async function replay(system: System, rows: DeliveryRow[], place: number): Promise<RowCommand[]> {
  const { db, scope, now, clock } = system;
  const row = chosen(rows.filter(isReplayable), place);
  if (row === undefined) return [];
  const resumable = statusesAllowing('replay');
  for (const { id, webhook_id, status } of rows) {
    if (webhook_id === row.webhook_id && status === row.status && resumable.includes(status)) system.reopened.add(id);
  }
  await insertJob(db, scope, {
    id: system.newId(),
    trigger: 'replays',
    filter: {
      webhookId: row.webhook_id,
      eventType: undefined,
      statuses: [row.status],
      sinceMs: undefined,
      untilMs: now.getTime(),
    },
    estimate: { count: 0, isExact: false },
    now,
  });
  const newId = () => {
    const id = system.newId();
    system.replays.add(id);
    return id;
  };
  while (await runChunk({ db, clock, newId, logger }));
  return ['replay'];
}

const logger = createLogger('silent');

function isReplayable(row: DeliveryRow): row is DeliveryRow & { status: ReplayableStatus } {
  return (REPLAYABLE_STATUSES as readonly string[]).includes(row.status);
}
