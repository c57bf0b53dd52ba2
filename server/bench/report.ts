import { type Distribution, median } from './figures.ts';
import type { Measurement } from './measure.ts';
import type { ScenarioResult } from './run-scenario.ts';
import type { Scenario } from './scenarios.ts';

/** The results as Markdown tables with aligned columns, fit for a terminal and for a file. */
export function reportOf(results: readonly ScenarioResult[]): string {
  const steady = results.filter(({ scenario }) => scenario.load.requestsPerSecond !== undefined);
  const throughput = results.filter((result) => !steady.includes(result));
  const parts: string[] = [];
  if (throughput.length > 0) parts.push(throughputTable(throughput));
  if (steady.length > 0) parts.push(latencyTable(steady));
  const faults = results.flatMap(({ scenario, faults }) => faults.map((fault) => `- ${scenario.label}: ${fault}`));
  const repeated = results
    .filter(({ failedAttempts }) => failedAttempts > 0)
    .map(({ scenario, failedAttempts }) => `- ${scenario.label}: ${failedAttempts} attempts failed and were repeated`);
  if (repeated.length > 0) parts.push(repeated.join('\n'));
  const lost = 'Each accepted event arrived exactly once at each webhook.';
  parts.push(faults.length === 0 ? lost : `FAILED, the figures are worth nothing:\n${faults.join('\n')}`);
  return parts.join('\n\n');
}

function throughputTable(results: readonly ScenarioResult[]): string {
  const header =
    'scenario|delivered/s|lowest|highest|floor/s|of floor|goal|published/s|p50 ms|max ms|Node us|PostgreSQL us|other load';
  const perSecond = (result: ScenarioResult) => medianOf(result, (measurement) => measurement.deliveriesPerSecond);
  const oneWebhook = results.find(({ scenario }) => scenario.name === 'fanout' && scenario.load.webhooks === 1);
  return table(
    header.split('|'),
    results.map((result) => {
      const rates = result.rounds.map(({ measured }) => measured.deliveriesPerSecond);
      const ratio = median(result.rounds.map(({ floor, measured }) => share(measured, floor)));
      const ofOneWebhook = oneWebhook === undefined ? Number.NaN : perSecond(result) / perSecond(oneWebhook);
      return [
        result.scenario.label,
        whole(perSecond(result)),
        whole(Math.min(...rates)),
        whole(Math.max(...rates)),
        whole(median(result.rounds.map(({ floor }) => floor?.deliveriesPerSecond ?? Number.NaN))),
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
function throughputGoal(scenario: Scenario, ofFloor: number, ofOneWebhook: number): string {
  if (scenario.name === 'single') return verdict('60 %', ofFloor >= 0.6);
  if (scenario.name === 'batch') return verdict('100 %', ofFloor >= 1);
  if (scenario.name === 'fanout' && scenario.load.webhooks > 1) {
    return verdict(`83 % of fan-out 1, is ${percent(ofOneWebhook)}`, ofOneWebhook >= 1 / 1.2);
  }
  return '';
}

function latencyTable(results: readonly ScenarioResult[]): string {
  const header = 'publish to received|p50 ms|p95 ms|p99 ms|max ms|goal|answer p50|answer p99|sent late p99|other load';
  return table(
    header.split('|'),
    results.flatMap(({ scenario, rounds }) => {
      const rate = `${scenario.load.requestsPerSecond} events/s`;
      const floors = rounds.map(({ floor }) => floor).filter((floor) => floor !== undefined);
      const own = rounds.map(({ measured }) => measured);
      const ratio = middle(own, 'latency', 'p50') / middle(floors, 'latency', 'p50');
      return [
        latencyRow(`floor, ${rate}`, floors, ''),
        latencyRow(`Posthorn, ${rate} (p50 is ${ratio.toFixed(1)} x floor)`, own, latencyGoal(own)),
      ];
    }),
  );
}

/** ARCHITECTURE.md, "Speed and size", for an idle machine. */
function latencyGoal(own: readonly Measurement[]): string {
  return verdict('p50 < 5, p99 < 30', middle(own, 'latency', 'p50') < 5 && middle(own, 'latency', 'p99') < 30);
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

function share(measured: Measurement, floor: Measurement | undefined): number {
  return floor === undefined ? Number.NaN : measured.deliveriesPerSecond / floor.deliveriesPerSecond;
}

function verdict(goal: string, met: boolean): string {
  return `${goal}: ${met ? 'met' : 'missed'}`;
}

function whole(value: number): string {
  return Number.isFinite(value) ? Math.round(value).toLocaleString('en') : '-';
}

function tenths(value: number): string {
  return Number.isFinite(value) ? value.toFixed(1) : '-';
}

function percent(share: number): string {
  return Number.isFinite(share) ? `${Math.round(share * 100)} %` : '-';
}

/** First column to the left, the others to the right. */
function table(header: string[], rows: string[][]): string {
  const widths = header.map((name, column) =>
    Math.max(...[header, ...rows].map((row) => row[column]?.length ?? 0), name.length, 3),
  );
  const line = (cells: string[]) =>
    `| ${cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join(' | ')} |`;
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(header), line(rule), ...rows.map(line)].join('\n');
}
