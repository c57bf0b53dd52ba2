import { type Database, errorCode } from '../db/pool.ts';
import { startSteps } from '../db/step-worker.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import type { AnnouncedType } from '../webhooks/announcements.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import { asksFor } from '../webhooks/operational-types.ts';
import {
  type Announcement,
  forgetAnnouncements,
  postponeAnnouncements,
  takeAnnouncements,
} from './announcement-rows.ts';
import { type OperationalEvent, publishOperational, tellsOwner } from './operational-event.ts';
import type { Publisher } from './publisher.ts';

/** How often is looked whether something is announced. */
const IDLE_MS = 1_000;

/** What could not be published is tried again after so long. */
const AGAIN_MS = 1_000;

export interface OperationalEventsDeps {
  publisher: Publisher;
  webhooks: WebhookDirectory;
  db: Database;
  clock: Clock;
  logger: Logger;
}

/**
 * Publishes Posthorn's own events but those of alerts: `webhook.disabled`, `webhook.recovered` and `delivery.dead`. That
 * one is to be told is a row of `announcements`, written in the statement or transaction that does what it tells of, and
 * deleted once the event is stored. So none is lost, whoever is killed when; and an event has the id of what it tells, so
 * that twice makes one. Every node does it, and the row locks share the work.
 */
export function startOperationalEvents(deps: OperationalEventsDeps): { stop(): Promise<void> } {
  const { clock, logger } = deps;
  return startSteps({
    what: 'operational events',
    step: () => publishAnnounced(deps),
    // Half of one connection's time at most.
    pauseMs: (tookMs) => Math.max(10, tookMs),
    idleMs: IDLE_MS,
    clock,
    logger,
  });
}

/** Publishes what is announced, some of it; false when nothing is. */
async function publishAnnounced(deps: OperationalEventsDeps): Promise<boolean> {
  const { db, clock } = deps;
  const taken = await takeAnnouncements(db, clock.now());
  if (taken === undefined) return false;
  const done = await Promise.all(taken.map((row) => publishOne(deps, row)));
  await forgetAnnouncements(
    db,
    taken.filter((_, at) => done[at]),
  );
  const left = taken.filter((_, at) => !done[at]);
  await postponeAnnouncements(db, left, new Date(clock.now() + AGAIN_MS));
  return true;
}

/** Whether there is nothing more to do about it. */
async function publishOne({ publisher, webhooks, logger }: OperationalEventsDeps, row: Announcement): Promise<boolean> {
  try {
    const event = EVENTS[row.type as AnnouncedType](row);
    // That a webhook was disabled stays to be read, whoever asks for it.
    if (event.type !== 'webhook.disabled') {
      const asking = await webhooks.match(event.scope, event.type);
      if (!asking.some((target) => asksFor(target.events, event.type) && event.isFor(target))) return true;
    }
    await publishOperational(publisher, event);
    return true;
  } catch (error) {
    const [code, about] = [errorCode(error), { type: row.type, webhook_id: row.webhook_id }];
    if (error instanceof AppError && error.status < 500) {
      logger.error({ ...about, code }, 'an operational event was refused; it is lost');
      return true;
    }
    logger.error({ ...about, code }, 'an operational event could not be published yet');
    return false;
  }
}

const EVENTS: Readonly<Record<AnnouncedType, (row: Announcement) => OperationalEvent>> = {
  'webhook.disabled': (row) => {
    const { reason, failing_since } = row.details as { reason: string; failing_since: string | null };
    const disabled_at = row.occurred_at.toISOString();
    return eventOf(row, `${formatId('webhook', row.webhook_id)}:${disabled_at}`, {
      ...describe(row),
      reason,
      failing_since,
      disabled_at,
    });
  },
  'webhook.recovered': (row) => {
    const { reason } = row.details as { reason: 'circuit_closed' | 'enabled' };
    const recovered_at = row.occurred_at.toISOString();
    return eventOf(row, `${formatId('webhook', row.webhook_id)}:${recovered_at}`, {
      ...describe(row),
      reason,
      recovered_at,
    });
  },
  'delivery.dead': (row) => {
    const { delivery_id, event_id, ...details } = row.details as DeadDetails;
    const deliveryId = formatId('delivery', delivery_id);
    // It may be tried again by hand, and die again.
    return eventOf(row, `${deliveryId}:${details.attempt_count}`, {
      delivery_id: deliveryId,
      event_id: formatId('event', event_id),
      event_type: details.event_type,
      reason: details.reason,
      attempt_count: details.attempt_count,
      response_status: details.response_status,
      error_class: details.error_class,
      dead_at: row.occurred_at.toISOString(),
      webhook: describe(row),
      omitted_before: row.omitted_before ?? 0,
    });
  },
};

/** As `delivery/sql/record-attempts.ts` writes it. */
interface DeadDetails {
  delivery_id: string;
  event_id: string;
  event_type: string;
  reason: string;
  attempt_count: number;
  response_status: number | null;
  error_class: string | null;
}

/** `what`: what it tells, which with its type is its id. */
function eventOf(row: Announcement, what: string, data: Record<string, unknown>): OperationalEvent {
  const type = row.type as AnnouncedType;
  return {
    scope: { tenantId: row.tenant_id, environmentId: row.environment_id },
    type,
    id: `${type}:${what}`,
    occurredAt: row.occurred_at,
    data,
    // Not to the webhook that it tells of, nor kept for later: it would tell one that is enabled again that it was disabled.
    isFor: (target) => target.id !== row.webhook_id && tellsOwner(target, row.webhook_owner),
  };
}

/** What operational events tell of a webhook. */
function describe({ webhook_id, webhook_name, webhook_url, webhook_owner }: Announcement) {
  return {
    webhook_id: formatId('webhook', webhook_id),
    name: webhook_name,
    url: shownUrl(webhook_url),
    owner: webhook_owner,
  };
}

/** Receivers' query strings often hold a credential. */
function shownUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname;
}
