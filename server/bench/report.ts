import { type Distribution, median } from './figures.ts';
import type { Measurement } from './measure.ts';
import type { ScenarioResult } from './running.ts';
import type { LoadScenario } from './scenarios.ts';
import { percent, table, tenths, verdict, whole } from './table.ts';

/** The results as Markdown. */
export function reportOf(results: readonly ScenarioResult[]): string {
  const loads = results.filter((result) => isLoad(result));
  const steady = loads.filter(({ scenario }) => scenario.load.requestsPerSecond !== undefined);
  const costs = loads.filter(({ scenario }) => scenario.base?.target === 'posthorn');
  const throughput = loads.filter((result) => !steady.includes(result) && !costs.includes(result));
  const hanging = results.filter(({ scenario }) => scenario.kind === 'hanging');
  const figures = results.filter((result) => result.figures.length > 0);
  const faults = results.flatMap(({ scenario, faults }) => faults.map((fault) => `- ${scenario.label}: ${fault}`));
  const repeated = results
    .filter(({ failedAttempts }) => failedAttempts > 0)
    .map(({ scenario, failedAttempts }) => `- ${scenario.label}: ${failedAttempts} attempts failed and were repeated`);
  const intact = 'Each accepted event arrived exactly once at each webhook; after a kill, at least once.';
  return [
    throughput.length > 0 && throughputTable(throughput),
    costs.length > 0 && costTable(costs),
    steady.length + hanging.length > 0 && latencyTable(steady, hanging),
    figures.length > 0 && figureTable(figures),
    repeated.length > 0 && repeated.join('\n'),
    faults.length === 0 ? intact : `FAILED, the figures are worth nothing:\n${faults.join('\n')}`,
  ]
    .filter((part) => part !== false)
    .join('\n\n');
}

type LoadResult = ScenarioResult & { scenario: LoadScenario };

function isLoad(result: ScenarioResult): result is LoadResult {
  return result.scenario.kind === 'load';
}

function throughputTable(results: readonly LoadResult[]): string {
  const header =
    'scenario|delivered/s|lowest|highest|floor/s|of floor|goal|published/s|p50 ms|max ms|Node us|PostgreSQL us|other load';
  const perSecond = (result: LoadResult) => medianOf(result, (measurement) => measurement.deliveriesPerSecond);
  const oneWebhook = results.find(({ scenario }) => scenario.name === 'fanout' && scenario.load.webhooks === 1);
  return table(
    header.split('|'),
    results.map((result) => {
      const rates = result.rounds.map(({ measured }) => measured.deliveriesPerSecond);
      const ratio = median(result.rounds.map(({ base, measured }) => share(measured, base)));
      const ofOneWebhook = oneWebhook === undefined ? Number.NaN : perSecond(result) / perSecond(oneWebhook);
      return [
        result.scenario.label,
        whole(perSecond(result)),
        whole(Math.min(...rates)),
        whole(Math.max(...rates)),
        whole(median(result.rounds.map(({ base }) => base?.deliveriesPerSecond ?? Number.NaN))),
        percent(ratio),
        throughputGoal(result.scenario, ratio, ofOneWebhook),
        whole(medianOf(result, (measurement) => measurement.publishedPerSecond)),
        whole(medianOf(result, ({ latency }) => latency?.p50)),
        whole(medianOf(result, ({ latency }) => latency?.max)),
        whole(medianOf(result, ({ nodeUs }) => nodeUs)),
        whole(medianOf(result, ({ postgresUs }) => postgresUs)),
        percent(medianOf(result, ({ otherLoad }) => otherLoad)),
      ];
    }),
  );
}

/** ARCHITECTURE.md, "Speed and size": single at least 60 % of the floor, batches above it, fan-out within 20 % of one webhook. */
function throughputGoal(scenario: LoadScenario, ofFloor: number, ofOneWebhook: number): string {
  // Of several processes: one alone is shown beside them, to compare.
  if (scenario.name === 'single' && scenario.processes === undefined) return verdict('60 %', ofFloor >= 0.6);
  // Half of what single publishes are to reach.
  if (scenario.name === 'template') return verdict('30 %', ofFloor >= 0.3);
  if (scenario.name === 'batch') return verdict('100 %', ofFloor >= 1);
  if (scenario.name === 'fanout' && scenario.load.webhooks > 1) {
    return verdict(`83 % of fan-out 1, is ${percent(ofOneWebhook)}`, ofOneWebhook >= 1 / 1.2);
  }
  return '';
}

/** ARCHITECTURE.md, "Speed and size": a delivery costs at most 20 % more than with a single webhook. */
function costTable(results: readonly LoadResult[]): string {
  const header =
    'cost of a delivery|Node us|PostgreSQL us|sum|single, just before|times single|goal|delivered/s|single/s|other load';
  return table(
    header.split('|'),
    results.map((result) => {
      const bases = result.rounds.map(({ base }) => base).filter((base) => base !== undefined);
      const ratio = median(result.rounds.map(({ base, measured }) => costOf(measured) / costOf(base)));
      return [
        result.scenario.label,
        whole(medianOf(result, ({ nodeUs }) => nodeUs)),
        whole(medianOf(result, ({ postgresUs }) => postgresUs)),
        whole(medianOf(result, costOf)),
        whole(median(bases.map(costOf))),
        Number.isFinite(ratio) ? ratio.toFixed(2) : '-',
        Number.isFinite(ratio) ? verdict('1.20', ratio <= 1.2) : '',
        whole(medianOf(result, ({ deliveriesPerSecond }) => deliveriesPerSecond)),
        whole(median(bases.map(({ deliveriesPerSecond }) => deliveriesPerSecond))),
        percent(medianOf(result, ({ otherLoad }) => otherLoad)),
      ];
    }),
  );
}

function costOf(measurement: Measurement | undefined): number {
  return (measurement?.nodeUs ?? Number.NaN) + (measurement?.postgresUs ?? Number.NaN);
}

function latencyTable(steady: readonly LoadResult[], hanging: readonly ScenarioResult[]): string {
  const header = 'publish to received|p50 ms|p95 ms|p99 ms|max ms|goal|answer p50|answer p99|sent late p99|other load';
  const rows = steady.flatMap(({ scenario, rounds }) => {
    const { bases, own, ratio } = compare(rounds, 'p50');
    const rate = `${scenario.load.requestsPerSecond} events/s`;
    // ARCHITECTURE.md, "Speed and size", for an idle machine.
    const met = middle(own, 'latency', 'p50') < 5 && middle(own, 'latency', 'p99') < 30;
    return [
      latencyRow(`floor, ${rate}`, bases, ''),
      latencyRow(`Posthorn, ${rate} (p50 is ${tenths(ratio)} x floor)`, own, verdict('p50 < 5, p99 < 30', met)),
    ];
  });
  const besideRows = hanging.flatMap(({ rounds }) => {
    const { bases, own, ratio } = compare(rounds, 'p99');
    return [
      latencyRow('quiet tenants, alone', bases, ''),
      latencyRow('quiet tenants, beside a hanging one', own, verdict(`p99 2 x, is ${tenths(ratio)} x`, ratio <= 2)),
    ];
  });
  return table(header.split('|'), [...rows, ...besideRows]);
}

/** @param key of the latency whose medians the ratio is of. */
function compare(rounds: ScenarioResult['rounds'], key: keyof Distribution) {
  const bases = rounds.map(({ base }) => base).filter((base) => base !== undefined);
  const own = rounds.map(({ measured }) => measured);
  return { bases, own, ratio: middle(own, 'latency', key) / middle(bases, 'latency', key) };
}

function latencyRow(label: string, measurements: readonly Measurement[], goal: string): string[] {
  return [
    label,
    ...(['p50', 'p95', 'p99', 'max'] as const).map((key) => tenths(middle(measurements, 'latency', key))),
    goal,
    tenths(middle(measurements, 'answer', 'p50')),
    tenths(middle(measurements, 'answer', 'p99')),
    tenths(middle(measurements, 'lateness', 'p99')),
    percent(median(measurements.map(({ otherLoad }) => otherLoad ?? Number.NaN))),
  ];
}

function figureTable(results: readonly ScenarioResult[]): string {
  const rows = results.flatMap(({ scenario, figures, otherLoad }) =>
    figures.map(({ what, measured, goal, met }) => [
      `${scenario.label}: ${what}`,
      measured,
      goal === undefined ? '' : verdict(goal, met === true),
      percent(otherLoad ?? Number.NaN),
    ]),
  );
  return table(['start and size', 'measured', 'goal', 'other load'], rows);
}

function middle(
  measurements: readonly Measurement[],
  what: 'latency' | 'answer' | 'lateness',
  key: keyof Distribution,
): number {
  return median(measurements.map((measurement) => measurement[what]?.[key] ?? Number.NaN));
}

function medianOf(result: ScenarioResult, figure: (measurement: Measurement) => number | undefined): number {
  return median(result.rounds.map(({ measured }) => figure(measured) ?? Number.NaN));
}

function share(measured: Measurement, base: Measurement | undefined): number {
  return base === undefined ? Number.NaN : measured.deliveriesPerSecond / base.deliveriesPerSecond;
}
