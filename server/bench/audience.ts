import type { Posthorn } from './posthorn.ts';
import { formatTurn, TURN } from './publish-request.ts';
import type { LoadShape } from './scenarios.ts';

/** How to publish to a load's webhooks, which are there. */
export interface Audience {
  eventType: string;
  headers: Readonly<Record<string, string>>;
  /** As the database has them. Number n posts to `/w/n` of the sink. */
  webhookIds: readonly string[];
  /** Deliveries that have arrived for it, in all measurements. */
  arrived: number;
  /** Attempts for it that failed and were made again, as far as the rows were asked. */
  failedAttempts: number;
}

/** For targets that look at nothing of it. */
export function nobody(): Audience {
  return { eventType: 'bench.relay', headers: {}, webhookIds: [], arrived: 0, failedAttempts: 0 };
}

/**
 * Makes the tenants and webhooks of a load.
 *
 * @param name a slug of this audience's own.
 */
export async function prepareAudience(
  posthorn: Posthorn,
  sinkPort: number,
  name: string,
  { audience, webhooks, template }: LoadShape,
): Promise<Audience> {
  const eventType = audience === 'types' ? `bench.${TURN}` : 'bench.event';
  const tenant = audience === 'tenants' ? `${name}-${TURN}` : name;
  const turns = Array.from({ length: webhooks }, (_, turn) => turn);
  const of = (text: string, turn: number) => text.replace(TURN, formatTurn(turn));
  await posthorn.api.createTenants([...new Set(turns.map((turn) => of(tenant, turn)))]);
  const webhookIds = await posthorn.api.createWebhooks(
    turns.map((turn) => ({
      tenant: of(tenant, turn),
      eventType: of(eventType, turn),
      url: `http://127.0.0.1:${sinkPort}/w/${turn}`,
      ...(template !== undefined && { template: TEMPLATE }),
    })),
  );
  return { eventType, headers: posthorn.api.headersOf(tenant), webhookIds, arrived: 0, failedAttempts: 0 };
}

/** Paths, an expression for the engine, and the data with its marker. */
const TEMPLATE = {
  kind: '{{ event_type|upper }}',
  order: { id: '{{ data.order_id }}', customer: '{{ data.customer.name }} <{{ data.customer.email }}>' },
  total: '{{ data.total }} {{ data.currency }}',
  skus: '{% for item in data["items"] %}{{ item.sku }} {% endfor %}',
  at: '{{ timestamp }}',
  bench: '{{ data.bench }}',
};
