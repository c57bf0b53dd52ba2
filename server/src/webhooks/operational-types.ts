import { patternsMatching } from '../routing/subscription-index.ts';

/** Types of the events that Posthorn publishes of itself, to the tenant whom they concern. */
export const OPERATIONAL_TYPES = [
  'webhook.disabled',
  'webhook.recovered',
  'delivery.dead',
  'alert.fired',
  'alert.resolved',
] as const;
export type OperationalType = (typeof OPERATIONAL_TYPES)[number];

/**
 * Whether a subscription asks for an operational event by its name or by the beginning of its name (`webhook.*`). `*`
 * does not ask for it: who takes all of a publisher's events has not said that he expects any of ours.
 */
export function asksFor(events: readonly string[], type: OperationalType): boolean {
  return patternsMatching(type).some((pattern) => pattern !== '*' && events.includes(pattern));
}

/** Whether a pattern is one that operational events are asked for with. */
export function isOperationalPattern(pattern: string): boolean {
  return OPERATIONAL_TYPES.some((type) => asksFor([pattern], type));
}
