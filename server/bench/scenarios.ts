export const SCENARIO_NAMES = [
  'floor',
  'single',
  'template',
  'batch',
  'latency',
  'fanout',
  'webhooks',
  'tenants',
  'restart',
  'hanging',
  'retention',
  'analytics',
  'backlog',
] as const;
export type ScenarioName = (typeof SCENARIO_NAMES)[number];

/** Who takes the publishes: the sink itself (shows what the generator can do), the bare relay, or Posthorn. */
export type TargetName = 'sink' | 'relay' | 'posthorn';

/** All Node processes, so that PostgreSQL is left behind; or that too, as in a power cut. */
export type Kill = 'node' | 'all';

/** How large the scenarios are that have a size of their own. */
export interface Sizes {
  /** Of one tenant. */
  webhooks: number;
  tenants: number;
  /** Deliveries that wait for the receiver that hangs. */
  hanging: number;
  /** Waiting deliveries, and how many of them are then delivered. */
  backlog: number;
  drained: number;
  /** Events of each old day whose time is over. */
  retained: number;
  /** Webhooks and event types whose attempts of 30 days are counted. */
  counted: { webhooks: number; types: number };
  /** Deliveries of the load under which the server is killed, and what is killed, one after the other. */
  killed: number;
  kills: readonly Kill[];
  /** A measurement of percentiles publishes so many events at least: 1 % of 1,000 are 10, and fewer say nothing. */
  percentileEvents: number;
  /** How long a server that only waits is watched, in seconds: twice its longest period, 5 s, and more. */
  restSeconds: number;
}

export const FULL_SIZES: Sizes = {
  webhooks: 10_000,
  tenants: 1_000,
  hanging: 100_000,
  backlog: 1_000_000,
  drained: 100_000,
  retained: 60_000,
  counted: { webhooks: 50, types: 20 },
  killed: 40_000,
  kills: ['node', 'all'],
  percentileEvents: 1_000,
  restSeconds: 12,
};

export const QUICK_SIZES: Sizes = {
  webhooks: 200,
  tenants: 100,
  hanging: 2_000,
  backlog: 20_000,
  drained: 2_000,
  retained: 5_000,
  counted: { webhooks: 5, types: 4 },
  killed: 4_000,
  kills: ['node'],
  percentileEvents: 150,
  restSeconds: 1,
};

/** One row of the results: a load and who takes it. */
export interface LoadScenario {
  kind: 'load';
  name: ScenarioName;
  /** Unique; names the row. */
  label: string;
  target: TargetName;
  /** Worker processes of Posthorn; undefined: as many as the run was told. */
  processes?: number;
  /** Measured just before each measurement, to compare with: the relay, or Posthorn itself with single publishes. */
  base: { target: 'relay' | 'posthorn'; load: LoadShape } | undefined;
  load: LoadShape;
}

/** A scenario that is more than one load; each has a file of its own. */
export interface StagedScenario {
  kind: 'restart' | 'hanging' | 'retention' | 'analytics' | 'backlog';
  name: ScenarioName;
  label: string;
  target: 'posthorn';
  processes?: undefined;
}

export type Scenario = LoadScenario | StagedScenario;

/**
 * Who the events are for.
 *
 * - `shared`: one tenant, whose webhooks get every event
 * - `types`: one tenant, whose webhooks are subscribed to a type each; the events' types take turns
 * - `tenants`: tenants with a webhook each, whose events take turns
 */
export type AudienceKind = 'shared' | 'types' | 'tenants';

export interface LoadShape {
  /** Events of one request. */
  batchSize: number;
  audience: AudienceKind;
  /** All webhooks of the audience. */
  webhooks: number;
  /** Their bodies are made by a template. */
  template?: true;
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

export const SINGLE: LoadShape = {
  batchSize: 1,
  audience: 'shared',
  webhooks: 1,
  // With 256 the publishers wait for commits while an eighth of the processor idles.
  connections: 512,
  deliveriesPerSecondMax: 40_000,
  secondsMin: 0,
};

export const BATCH: LoadShape = { ...SINGLE, batchSize: 100, connections: 16, deliveriesPerSecondMax: 20_000 };

/** An open loop, for percentiles. */
export function steady(requestsPerSecond: number, { percentileEvents }: Sizes): LoadShape {
  const secondsMin = percentileEvents / requestsPerSecond;
  return { ...SINGLE, connections: 256, requestsPerSecond, deliveriesPerSecondMax: requestsPerSecond, secondsMin };
}

/** @param processes worker processes of Posthorn in all scenarios that do not say otherwise. */
export function scenariosOf(sizes: Sizes, processes: number): Scenario[] {
  const single: LoadScenario = {
    kind: 'load',
    name: 'single',
    label: `single, ${processes === 1 ? '1 process' : `${processes} processes`}`,
    target: 'posthorn',
    base: { target: 'relay', load: SINGLE },
    load: SINGLE,
  };
  const latency = steady(500, sizes);
  const ownSingle: LoadScenario['base'] = { target: 'posthorn', load: SINGLE };
  return [
    { ...single, name: 'floor', label: 'generator to sink', target: 'sink', base: undefined },
    { ...single, name: 'floor', label: 'floor', target: 'relay', base: undefined },
    ...(processes > 1 ? [{ ...single, label: 'single, 1 process', processes: 1 }] : []),
    single,
    {
      ...single,
      name: 'template',
      label: 'payload template',
      load: { ...SINGLE, template: true },
    },
    { ...single, name: 'batch', label: 'batch of 100', load: BATCH },
    { ...single, name: 'latency', label: 'latency', base: { target: 'relay', load: latency }, load: latency },
    fanout(single, 1, 64),
    fanout(single, 10, 16),
    fanout(single, 100, 4),
    {
      ...single,
      name: 'webhooks',
      label: `${sizes.webhooks.toLocaleString('en')} webhooks`,
      base: ownSingle,
      load: { ...SINGLE, audience: 'types', webhooks: sizes.webhooks },
    },
    {
      ...single,
      name: 'tenants',
      label: `${sizes.tenants.toLocaleString('en')} tenants`,
      base: ownSingle,
      load: { ...SINGLE, audience: 'tenants', webhooks: sizes.tenants },
    },
    { kind: 'restart', name: 'restart', label: 'restart', target: 'posthorn' },
    { kind: 'hanging', name: 'hanging', label: 'hanging receiver', target: 'posthorn' },
    { kind: 'retention', name: 'retention', label: 'retention', target: 'posthorn' },
    { kind: 'analytics', name: 'analytics', label: 'analytics', target: 'posthorn' },
    { kind: 'backlog', name: 'backlog', label: 'backlog', target: 'posthorn' },
  ];
}

/** The more deliveries an event causes, the fewer are published at once: the load stays of one size. */
function fanout(single: LoadScenario, webhooks: number, connections: number): LoadScenario {
  const load: LoadShape = { ...SINGLE, webhooks, connections, deliveriesPerSecondMax: 10_000 };
  return { ...single, name: 'fanout', label: `fan-out ${webhooks}`, load };
}
