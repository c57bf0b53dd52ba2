import { Type } from 'typebox';
import { type ApiClient, apiPath } from '../api-client.ts';
import type { DemoReceiver } from './receivers.ts';

/** How a receiver's deliveries stand. */
export interface ReceiverFigures {
  name: string;
  habit: string;
  /** Events that were published for it. */
  events: number;
  delivered: number;
  /** Attempts after the first of a delivery. */
  retried: number;
  /** Neither delivered nor given up yet: under way, or waiting for an attempt. */
  waiting: number;
  /** Of these, the ones whose next attempt has its time set. */
  scheduled: number;
  /** Given up after the last attempt; kept as dead letters. */
  dead: number;
  /** What the newest attempted delivery ended with, so far. */
  last: string;
}

/** A receiver with the webhook that leads to it. */
export interface SubscribedReceiver {
  receiver: DemoReceiver;
  webhookId: string;
}

const WebhookStats = Type.Object({
  successful_deliveries: Type.Integer(),
  failed_deliveries: Type.Integer(),
  waiting_deliveries: Type.Integer(),
});

const DeliveryList = Type.Object({
  data: Type.Array(
    Type.Object({
      attempt_count: Type.Integer(),
      response_status: Type.Union([Type.Integer(), Type.Null()]),
      response_time_ms: Type.Union([Type.Number(), Type.Null()]),
      error_message: Type.Union([Type.String(), Type.Null()]),
    }),
  ),
});

/**
 * Asks the API how things stand. The retries come from the receiver, which counts what reached it.
 *
 * @param events published so far; each of them goes to every receiver.
 */
export async function fetchFigures(
  client: ApiClient,
  subscribed: readonly SubscribedReceiver[],
  events: number,
): Promise<ReceiverFigures[]> {
  return Promise.all(
    subscribed.map(async ({ receiver, webhookId }) => {
      const path = apiPath('/api/v1/webhooks', webhookId);
      const [stats, deliveries] = await Promise.all([
        client.call(WebhookStats, { method: 'GET', path: `${path}/stats` }),
        client.call(DeliveryList, { method: 'GET', path: `${path}/deliveries?limit=100` }),
      ]);
      const { successful_deliveries: delivered, failed_deliveries: dead, waiting_deliveries: scheduled } = stats;
      const latest = deliveries.data.find((delivery) => delivery.attempt_count > 0);
      return {
        name: receiver.name,
        habit: receiver.habit,
        events,
        delivered,
        retried: receiver.seen.retries,
        // A delivery may end between the two requests.
        waiting: Math.max(0, events - delivered - dead),
        scheduled,
        dead,
        last: latest === undefined ? '' : describeLast(latest),
      };
    }),
  );
}

function describeLast(delivery: Type.Static<typeof DeliveryList>['data'][number]): string {
  if (delivery.response_status === null) return delivery.error_message ?? '';
  const time = delivery.response_time_ms;
  return time === null ? `${delivery.response_status}` : `${delivery.response_status} in ${Math.round(time)} ms`;
}
