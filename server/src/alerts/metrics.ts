/** What a rule may watch. */
export const METRICS = [
  'delivery_failure_rate',
  'response_time_p95',
  'response_time',
  'queue_backlog',
  'dead_letters',
  'webhook_disabled',
  'circuit_open',
] as const;
export type Metric = (typeof METRICS)[number];

/** Other names of metrics in the documents. */
const ALIASES: Readonly<Record<string, Metric>> = { response_time_degradation: 'response_time_p95' };

/** Undefined for a name that is no metric's. */
export function metricOf(name: string): Metric | undefined {
  return METRICS.find((metric) => metric === name) ?? (Object.hasOwn(ALIASES, name) ? ALIASES[name] : undefined);
}

/**
 * - `rate`: over the attempts of the period; of few attempts it says nothing
 * - `count`: what happened within the period
 * - `level`: what is there at the moment; it has to stay for a period before anybody is told
 */
const KINDS = {
  delivery_failure_rate: 'rate',
  response_time_p95: 'rate',
  response_time: 'rate',
  dead_letters: 'count',
  queue_backlog: 'level',
  webhook_disabled: 'level',
  circuit_open: 'level',
} as const satisfies Record<Metric, 'rate' | 'count' | 'level'>;

export function kindOf(metric: Metric): 'rate' | 'count' | 'level' {
  return KINDS[metric];
}
