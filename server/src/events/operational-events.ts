import { errorCode } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import type { DisabledWebhook } from '../webhooks/commands.ts';
import { asksFor, type OperationalType } from '../webhooks/operational-types.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import type { Publisher } from './publisher.ts';

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 60_000;

/** Posthorn's own events. They are published, delivered and kept like a publisher's. */
export interface OperationalEvents {
  /** `webhook.disabled`, to the other webhooks of its environment that ask for it. */
  webhookDisabled(disabled: DisabledWebhook): void;
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
  clock: Clock;
  logger: Logger;
}): OperationalEvents {
  const { publisher, clock, logger } = options;
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
    const { scope, type, id, occurredAt, isFor } = event;
    const data = Buffer.from(JSON.stringify(event.data));
    const request = {
      type,
      data,
      dataValue: event.data,
      metadata: null,
      eventId: id,
      occurredAtMs: occurredAt.getTime(),
      orderingKey: null,
      priority: 0,
      deliverAtMs: null,
    };
    for (let delayMs = RETRY_MS_MIN; !stopped; delayMs = Math.min(delayMs * 2, RETRY_MS_MAX)) {
      try {
        return await publisher.publishOwn(scope, request, (target) => asksFor(target.events, type) && isFor(target));
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

  const start = (event: OperationalEvent) => {
    const publishing = publish(event).finally(() => underWay.delete(publishing));
    underWay.add(publishing);
  };

  return {
    webhookDisabled: (disabled) => start(disabledEvent(disabled)),
    async stop() {
      stopped = true;
      for (const end of waiting) end();
      await Promise.all(underWay);
    },
  };
}

interface OperationalEvent {
  scope: Scope;
  type: OperationalType;
  /** The same for every try. */
  id: string;
  occurredAt: Date;
  data: Record<string, unknown>;
  isFor: (target: WebhookTarget) => boolean;
}

function disabledEvent(disabled: DisabledWebhook): OperationalEvent {
  const webhookId = formatId('webhook', disabled.id);
  const disabledAt = disabled.disabledAt.toISOString();
  const { origin, pathname } = new URL(disabled.url);
  return {
    scope: { tenantId: disabled.tenantId, environmentId: disabled.environmentId },
    type: 'webhook.disabled',
    id: `webhook.disabled:${webhookId}:${disabledAt}`,
    occurredAt: disabled.disabledAt,
    data: {
      webhook_id: webhookId,
      name: disabled.name,
      // Receivers' query strings often hold a credential.
      url: origin + pathname,
      owner: disabled.owner,
      reason: disabled.reason,
      failing_since: disabled.failingSince?.toISOString() ?? null,
      disabled_at: disabledAt,
    },
    // Not even kept for later: it would tell a webhook that is enabled again that it was disabled.
    isFor: (target) => target.id !== disabled.id,
  };
}
