import { type Database, errorCode } from '../db/pool.ts';
import type { AttemptRecord } from '../delivery/recorder.ts';
import type { Scope } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import { RecentEntries } from '../kernel/recent-entries.ts';
import type { DisabledWebhook } from '../webhooks/commands.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import { asksFor, isOperationalType, type OperationalType } from '../webhooks/operational-types.ts';
import { type OperationalEvent, publishOperational, tellsOwner } from './operational-event.ts';
import type { Publisher } from './publisher.ts';

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 60_000;

/** Dead deliveries of an environment that are told of each minute, by each node. */
export const DEAD_PER_MINUTE_MAX = 100;

/** A webhook that comes and goes is told to have recovered once in so long, by each node. */
const RECOVERED_EVERY_MS = 300_000;

/** Events that may be waiting to be published; what is more is not told of. */
const UNDER_WAY_MAX = 1_000;

/** A webhook that takes requests again. */
export interface RecoveredWebhook extends Scope {
  webhookId: string;
  /** Its circuit was closed by a request that succeeded, or a person has enabled it after Posthorn had disabled it. */
  reason: 'circuit_closed' | 'enabled';
}

/** Posthorn's own events. They are published, delivered and kept like a publisher's. */
export interface OperationalEvents {
  /** `webhook.disabled`, to the other webhooks of its environment that ask for it. */
  webhookDisabled(disabled: DisabledWebhook): void;
  /** `webhook.recovered`, to the other webhooks that ask for it. */
  webhookRecovered(recovered: RecoveredWebhook): void;
  /**
   * `delivery.dead`, to the other webhooks that ask for it. Of a delivery of Posthorn's own events there is none: it would
   * be the cause of the next. Of more than a hundred a minute the next event says how many were left out.
   */
  deliveryDead(record: AttemptRecord): void;
  /** Ends what is under way; what could not be published yet is lost, and the log says so. */
  stop(): Promise<void>;
}

/**
 * Publishes in the background. What an event tells is committed before the event is, so an event whose publishing fails
 * is tried again, after half a second at first and at most every minute, until it is there or the process ends. A
 * process that is killed between the two loses it. An event has an id made of what it tells: a try that was committed
 * without an answer, and then repeated, delivers nothing twice.
 */
export function createOperationalEvents(options: {
  publisher: Publisher;
  webhooks: WebhookDirectory;
  db: Database;
  clock: Clock;
  logger: Logger;
}): OperationalEvents {
  const { publisher, webhooks, db, clock, logger } = options;
  const underWay = new Set<Promise<void>>();
  const waiting = new Set<() => void>();
  let stopped = false;

  const wait = (delayMs: number) =>
    new Promise<void>((resolve) => {
      const end = () => {
        cancel();
        waiting.delete(end);
        resolve();
      };
      const cancel = clock.after(delayMs, end);
      waiting.add(end);
    });

  const publish = async (event: OperationalEvent) => {
    const { id } = event;
    for (let delayMs = RETRY_MS_MIN; !stopped; delayMs = Math.min(delayMs * 2, RETRY_MS_MAX)) {
      try {
        return await publishOperational(publisher, event);
      } catch (error) {
        const code = errorCode(error);
        if (error instanceof AppError && error.status < 500) {
          return logger.error({ event_id: id, code }, 'an operational event was refused; it is lost');
        }
        logger.error({ event_id: id, code }, 'an operational event could not be published yet');
      }
      if (!stopped) await wait(delayMs);
    }
    logger.error({ event_id: id }, 'an operational event was not published before the stop; it is lost');
  };

  const start = (work: () => Promise<void>) => {
    const publishing = work().finally(() => underWay.delete(publishing));
    underWay.add(publishing);
  };

  /** Whether it is worth an event: somebody else asks for it. */
  const isAskedFor = async (scope: Scope, type: OperationalType, webhookId: string) => {
    const asking = await webhooks.match(scope, type);
    return asking.some((target) => target.id !== webhookId && asksFor(target.events, type));
  };

  /** Reads of the webhook what an event tells of it, and publishes. Only the reading may fail: then nothing is told. */
  const tellOf = (
    type: OperationalType,
    key: Scope & { webhookId: string },
    eventOf: (webhook: Described) => OperationalEvent | undefined,
  ) =>
    start(async () => {
      try {
        if (!(await isAskedFor(key, type, key.webhookId))) return;
        const webhook = await describe(db, key);
        const event = webhook && eventOf(webhook);
        if (event !== undefined) await publish(event);
      } catch (error) {
        logger.error({ webhook_id: key.webhookId, type, code: errorCode(error) }, 'an operational event was not told');
      }
    });

  const recoveries = new RecentEntries<number>(10_000);
  const deadSeen = new RecentEntries<{ minute: number; told: number; omitted: number }>(10_000);

  /** How many were left out so far, when one more may be told of. */
  const mayTellDead = ({ tenantId, environmentId }: Scope): number | undefined => {
    const key = `${tenantId}/${environmentId}`;
    const minute = Math.floor(clock.now() / 60_000);
    let seen = deadSeen.get(key);
    if (seen === undefined) {
      seen = { minute, told: 0, omitted: 0 };
      deadSeen.set(key, seen);
    }
    if (seen.minute !== minute) [seen.minute, seen.told] = [minute, 0];
    if (seen.told >= DEAD_PER_MINUTE_MAX || underWay.size >= UNDER_WAY_MAX) {
      seen.omitted += 1;
      return undefined;
    }
    const { omitted } = seen;
    seen.told += 1;
    seen.omitted = 0;
    return omitted;
  };

  return {
    webhookDisabled: (disabled) => start(() => publish(disabledEvent(disabled))),
    webhookRecovered(recovered) {
      const { webhookId } = recovered;
      const nowMs = clock.now();
      if (nowMs - (recoveries.get(webhookId) ?? Number.NEGATIVE_INFINITY) < RECOVERED_EVERY_MS) return;
      if (underWay.size >= UNDER_WAY_MAX) return;
      recoveries.set(webhookId, nowMs);
      tellOf('webhook.recovered', recovered, (webhook) => recoveredEvent(recovered, webhook, new Date(nowMs)));
    },
    deliveryDead(record) {
      const { task } = record;
      if (stopped || isOperationalType(task.event.type)) return;
      const omitted = mayTellDead(task);
      if (omitted === undefined) return;
      tellOf('delivery.dead', task, (webhook) => deadEvent(record, webhook, omitted));
    },
    async stop() {
      stopped = true;
      for (const end of waiting) end();
      await Promise.all(underWay);
    },
  };
}

function disabledEvent(disabled: DisabledWebhook): OperationalEvent {
  const webhookId = formatId('webhook', disabled.id);
  const disabledAt = disabled.disabledAt.toISOString();
  return {
    scope: { tenantId: disabled.tenantId, environmentId: disabled.environmentId },
    type: 'webhook.disabled',
    id: `webhook.disabled:${webhookId}:${disabledAt}`,
    occurredAt: disabled.disabledAt,
    data: {
      webhook_id: webhookId,
      name: disabled.name,
      url: shownUrl(disabled.url),
      owner: disabled.owner,
      reason: disabled.reason,
      failing_since: disabled.failingSince?.toISOString() ?? null,
      disabled_at: disabledAt,
    },
    // Not even kept for later: it would tell a webhook that is enabled again that it was disabled.
    isFor: (target) => target.id !== disabled.id && tellsOwner(target, disabled.owner),
  };
}

/** What operational events tell of a webhook. */
interface Described {
  webhook_id: string;
  name: string;
  url: string;
  owner: string | null;
}

async function describe(db: Database, key: Scope & { webhookId: string }): Promise<Described | undefined> {
  const row = await db
    .selectFrom('webhooks')
    .select(['name', 'url', 'owner'])
    .where('tenant_id', '=', key.tenantId)
    .where('environment_id', '=', key.environmentId)
    .where('id', '=', key.webhookId)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  const { name, url, owner } = row;
  return { webhook_id: formatId('webhook', key.webhookId), name, url: shownUrl(url), owner };
}

/** Receivers' query strings often hold a credential. */
function shownUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname;
}

function recoveredEvent(recovered: RecoveredWebhook, webhook: Described, recoveredAt: Date): OperationalEvent {
  const { tenantId, environmentId, webhookId, reason } = recovered;
  const recovered_at = recoveredAt.toISOString();
  return {
    scope: { tenantId, environmentId },
    type: 'webhook.recovered',
    id: `webhook.recovered:${webhook.webhook_id}:${recovered_at}`,
    occurredAt: recoveredAt,
    data: { ...webhook, reason, recovered_at },
    isFor: (target) => target.id !== webhookId && tellsOwner(target, webhook.owner),
  };
}

function deadEvent(record: AttemptRecord, webhook: Described, omitted: number): OperationalEvent | undefined {
  const { task, outcome, number, responseStatus, errorClass, endedAtMs } = record;
  if (outcome.status !== 'dead') return undefined;
  const deliveryId = formatId('delivery', task.id);
  return {
    scope: { tenantId: task.tenantId, environmentId: task.environmentId },
    type: 'delivery.dead',
    // It may be tried again by hand, and die again.
    id: `delivery.dead:${deliveryId}:${number}`,
    occurredAt: new Date(endedAtMs),
    data: {
      delivery_id: deliveryId,
      event_id: task.event.id,
      event_type: task.event.type,
      reason: outcome.reason,
      attempt_count: number,
      response_status: responseStatus,
      error_class: errorClass,
      dead_at: new Date(endedAtMs).toISOString(),
      webhook,
      omitted_before: omitted,
    },
    isFor: (target) => target.id !== task.webhookId && tellsOwner(target, webhook.owner),
  };
}
