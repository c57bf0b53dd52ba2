export const SCENARIO_NAMES = ['floor', 'single', 'batch', 'latency', 'fanout'] as const;
export type ScenarioName = (typeof SCENARIO_NAMES)[number];

/** Who takes the publishes: the sink itself (shows what the generator can do), the bare relay, or Posthorn. */
export type TargetName = 'sink' | 'relay' | 'posthorn';

/** One row of the results: a load and who takes it. */
export interface Scenario {
  name: ScenarioName;
  /** Unique; names the row. */
  label: string;
  target: TargetName;
  /** Also given to the relay, just before each measurement; undefined where there is nothing to compare. */
  floor: LoadShape | undefined;
  load: LoadShape;
}

export interface LoadShape {
  /** Events of one request. */
  batchSize: number;
  /** Webhooks that each event goes to. */
  webhooks: number;
  connections: number;
  /** Undefined: closed loop, as fast as the answers come. */
  requestsPerSecond?: number;
  /**
   * A measurement of n seconds ends its publishing early when it has caused n times so many deliveries: what the target
   * accepts faster than it delivers has to be delivered after, and the measurement waits for that.
   */
  deliveriesPerSecondMax: number;
  /** Never publish for less, whatever was asked for. */
  secondsMin: number;
}

const SINGLE: LoadShape = {
  batchSize: 1,
  webhooks: 1,
  connections: 64,
  deliveriesPerSecondMax: 40_000,
  secondsMin: 1,
};

const BATCH: LoadShape = { ...SINGLE, batchSize: 100, connections: 16, deliveriesPerSecondMax: 20_000 };

/** 99 % of 1,000 events leave 10 above: fewer say nothing about the p99. */
const STEADY: LoadShape = { ...SINGLE, requestsPerSecond: 500, deliveriesPerSecondMax: 500, secondsMin: 2 };

export const SCENARIOS: readonly Scenario[] = [
  { name: 'floor', label: 'generator to sink', target: 'sink', floor: undefined, load: SINGLE },
  { name: 'floor', label: 'floor', target: 'relay', floor: undefined, load: SINGLE },
  { name: 'single', label: 'single', target: 'posthorn', floor: SINGLE, load: SINGLE },
  { name: 'batch', label: 'batch of 100', target: 'posthorn', floor: SINGLE, load: BATCH },
  { name: 'latency', label: 'latency', target: 'posthorn', floor: STEADY, load: STEADY },
  fanout(1, 64),
  fanout(10, 16),
  fanout(100, 4),
];

/** The more deliveries an event causes, the fewer are published at once: the load stays of one size. */
function fanout(webhooks: number, connections: number): Scenario {
  const load: LoadShape = { ...SINGLE, webhooks, connections, deliveriesPerSecondMax: 10_000 };
  return { name: 'fanout', label: `fan-out ${webhooks}`, target: 'posthorn', floor: SINGLE, load };
}
