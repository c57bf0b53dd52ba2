import { matchesEventPattern, parseEventPattern } from '../catalog/event-pattern.ts';
import { invalidField } from '../kernel/errors.ts';
import { MESSAGE_TYPES, type Message, STREAMED_STATUSES } from './message.ts';

/** What of an environment's messages a listener is sent. */
export type Wanted = (message: Message) => boolean;

export interface FilterQuery {
  types?: string | undefined;
  event_type?: string | undefined;
  status?: string | undefined;
}

/**
 * Reads what a listener asks for. `event_type` and `status` say which deliveries, and leave alerts alone.
 *
 * @param webhookId only what concerns this webhook.
 * @param owner only what concerns webhooks of this owner, and is for owners.
 * @throws AppError 422
 */
export function readFilter(query: FilterQuery, webhookId: string | undefined, owner: string | undefined): Wanted {
  const types = query.types === undefined ? undefined : readTypes(query.types);
  const statuses = query.status === undefined ? undefined : readStatuses(query.status);
  const pattern = query.event_type === undefined ? undefined : parseEventPattern(query.event_type);
  if (query.event_type !== undefined && pattern === undefined) {
    throw invalidField('event_type', 'must be the name of an event type, or the beginning of a name such as order.*');
  }
  return (message) => {
    if (owner !== undefined && message.owner !== owner) return false;
    if (webhookId !== undefined && message.webhookId !== webhookId) return false;
    if (types?.has(message.type) === false) return false;
    if (message.status === undefined) return true;
    if (statuses?.has(message.status) === false) return false;
    return pattern === undefined || matchesEventPattern(pattern, message.eventType ?? '');
  };
}

/** Names of messages, and `delivery` or `alert` (also `delivery.*`) for all of a kind. */
function readTypes(text: string): Set<string> {
  const types = new Set<string>();
  for (const part of text.split(',')) {
    const name = part.trim().replace(/\.\*$/, '');
    const found = MESSAGE_TYPES.filter((type) => type === name || type.split('.')[0] === name);
    if (found.length === 0)
      throw invalidField('types', `must be names among delivery, alert, ${MESSAGE_TYPES.join(', ')}`);
    for (const type of found) types.add(type);
  }
  return types;
}

function readStatuses(text: string): Set<string> {
  const statuses = text.split(',').map((part) => part.trim());
  const known: readonly string[] = STREAMED_STATUSES;
  if (!statuses.every((status) => known.includes(status))) {
    throw invalidField('status', `must be names among ${STREAMED_STATUSES.join(', ')}`);
  }
  return new Set(statuses);
}
