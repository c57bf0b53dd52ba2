import { Type } from 'typebox';
import { filterText, readTimeFilter } from '../../http/filters.ts';
import { invalidField } from '../../kernel/errors.ts';
import { parseId } from '../../kernel/ids.ts';
import { orNull } from '../../webhooks/nullable.ts';

/** Ended deliveries that can be delivered again. */
export const REPLAYABLE_STATUSES = ['delivered', 'dead', 'cancelled'] as const;
export type ReplayableStatus = (typeof REPLAYABLE_STATUSES)[number];

/** Which deliveries are meant. */
export interface RecoveryFilter {
  /** UUID. */
  webhookId: string | undefined;
  /** Only of webhooks that have this owner when the delivery's turn comes; undefined: of all. */
  owner?: string | undefined;
  /** UUID. */
  eventId?: string | undefined;
  eventType: string | undefined;
  /** Of the last attempt. */
  responseStatus?: number | undefined;
  /** Part of the event type. */
  q?: string | undefined;
  /** undefined: whatever their status is. */
  statuses: readonly ReplayableStatus[] | undefined;
  /** Made at this time or later, in milliseconds. */
  sinceMs: number | undefined;
  /** Made before this time. */
  untilMs: number;
}

/** Of these the dead letters are the index: they need not be searched for among all deliveries. */
export function meansDeadOnly(filter: RecoveryFilter): boolean {
  return filter.statuses?.every((status) => status === 'dead') === true;
}

const time = (description: string) => Type.String({ format: 'date-time', description });

/** When the deliveries were made. */
export const since = time('Deliveries made at this time or later.');
export const until = time('Deliveries made before this time; now at the latest.');

/** What else a list of deliveries is filtered by. */
export const eventId = filterText('The id of the event, or its publisher’s own.');
export const responseStatus = Type.Integer({ minimum: 100, maximum: 599, description: 'Of the last attempt.' });
export const partOfType = filterText('Part of the event type.');

/** Fields of a body that says which deliveries are meant. */
export const FilterFields = {
  webhook_id: Type.Optional(orNull(Type.String())),
  event_id: Type.Optional(orNull(eventId)),
  event_type: Type.Optional(orNull(filterText())),
  response_status: Type.Optional(orNull(responseStatus)),
  q: Type.Optional(orNull(partOfType)),
};

interface FilterBody {
  webhook_id?: string | null;
  event_type?: string | null;
  response_status?: number | null;
  q?: string | null;
  since?: string | null;
  until?: string | null;
}

/**
 * `until` is never later than now: what is made from now on, the replays themselves too, is not meant.
 *
 * The event is for `namedEvent` to find: its publisher's id is known to the database alone.
 *
 * @throws AppError 422 for a text that is no webhook's id, and for a range without room.
 */
export function readFilter(
  body: FilterBody,
  statuses: readonly ReplayableStatus[] | undefined,
  nowMs: number,
): RecoveryFilter {
  const { sinceMs, untilMs = nowMs } = readTimeFilter(body);
  if (sinceMs !== undefined && sinceMs >= Math.min(untilMs, nowMs)) {
    throw invalidField('since', sinceMs >= nowMs ? 'must be in the past' : 'must be before `until`');
  }
  return {
    webhookId: body.webhook_id == null ? undefined : readWebhookId(body.webhook_id),
    eventType: body.event_type ?? undefined,
    responseStatus: body.response_status ?? undefined,
    q: body.q ?? undefined,
    statuses,
    // Nothing is older, and PostgreSQL writes years before the first in another way.
    sinceMs: sinceMs === undefined ? undefined : Math.max(0, sinceMs),
    untilMs: Math.max(0, Math.min(untilMs, nowMs)),
  };
}

function readWebhookId(text: string): string {
  const id = parseId('webhook', text);
  if (id === undefined) throw unknownWebhook();
  return id;
}

/** The same for another tenant's webhook as for none. */
export function unknownWebhook() {
  return invalidField('webhook_id', 'is not a webhook of this environment');
}
