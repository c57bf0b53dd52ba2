import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { GeneratorCalls } from './generator.ts';
import { describeMachine } from './machine.ts';
import { API_PATHS } from './measure.ts';
import { type Options, readOptions, USAGE } from './options.ts';
import { startPart } from './part.ts';
import { knowsProcesses, Posthorn } from './posthorn.ts';
import type { RelayCalls } from './relay.ts';
import { reportOf } from './report.ts';
import { runScenario } from './run-scenario.ts';
import { noResult, type Running, type ScenarioResult } from './running.ts';
import { type Scenario, scenariosOf } from './scenarios.ts';
import type { SinkCalls } from './sink.ts';

/** What was started and has to be stopped, whatever happens; the last one first. */
const started: { stop(): Promise<void> }[] = [];

let stopping: Promise<void> | undefined;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => stopAll().finally(() => process.exit(1)));
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  // Parts that are stopped because of a signal make calls fail; that is no news.
  if (stopping === undefined) console.error((error as Error).message);
  process.exitCode = 1;
} finally {
  await stopAll();
}

/** @returns the exit code: 1 when anything was lost, doubled or refused. Goals that are missed are shown, not failed. */
async function main(args: string[]): Promise<number> {
  let options: Options;
  try {
    options = readOptions(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  const machine = await describeMachine();
  console.log(machine.join('\n'));
  setTimeout(() => {
    console.error('The bench takes far longer than it should; it stops.');
    void stopAll().finally(() => process.exit(1));
  }, minutesMax(options) * 60_000).unref();

  const startMs = performance.now();
  const { results, facts, serverOutput } = await runAll(options);
  facts.push(`In all: ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
  const report = reportOf(results);
  console.log(`\n${facts.join('\n')}\n\n${report}`);
  const failed = results.some(({ faults }) => faults.length > 0);
  if (failed && serverOutput.length > 0) console.log(`\nThe server's last output:\n${serverOutput.join('\n')}`);
  if (options.save !== undefined) save(options.save, args, [...machine, ...facts], report);
  return failed ? 1 : 0;
}

interface Outcome {
  results: ScenarioResult[];
  /** Lines that belong to the run as a whole. */
  facts: string[];
  /** The last lines that Posthorn wrote. */
  serverOutput: readonly string[];
}

async function runAll(options: Options): Promise<Outcome> {
  const processes = chooseProcesses(options);
  const scenarios = scenariosOf(options.sizes, processes).filter(({ name }) => options.scenarios.includes(name));
  const sink = keep(startPart<SinkCalls>('./sink.ts'));
  const generator = keep(startPart<GeneratorCalls>('./generator.ts'));
  const relay = keep(startPart<RelayCalls>('./relay.ts'));
  const sinkPort = await sink.call('listen', null);
  const relayPort = await relay.call('listen', { sinkPort });
  const posthorn = scenarios.some(needsPosthorn) ? await createPosthorn(options.server) : undefined;
  const running: Running = {
    stage: { generator, sink, run: 0 },
    sinkPort,
    sink: { pid: sink.pid, port: sinkPort, paths: { single: '/w/0', batch: '/w/0' } },
    relay: { pid: relay.pid, port: relayPort, paths: API_PATHS },
    relayIsWarm: false,
    posthorn,
    audiences: 0,
    single: undefined,
  };
  const results: ScenarioResult[] = [];
  for (const scenario of scenarios) {
    const result = noResult(scenario);
    const startMs = performance.now();
    process.stdout.write(`${scenario.label} ...`);
    results.push(result);
    try {
      if (posthorn !== undefined && needsPosthorn(scenario)) await runWith(posthorn, scenario.processes ?? processes);
      await runScenario(running, scenario, options, result);
    } catch (error) {
      // The figures of the other scenarios are worth keeping, unless everything is being stopped.
      if (stopping !== undefined) throw error;
      result.faults.push((error as Error).message);
    }
    console.log(` ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
  }
  return { results, facts: factsOf(options, processes, posthorn), serverOutput: posthorn?.output ?? [] };
}

/** @throws Error when more processes were asked for than this server can run. */
function chooseProcesses({ processes, server }: Options): number {
  if (processes === 1) return 1;
  if (knowsProcesses(server)) return processes ?? 2;
  if (processes !== undefined) throw new Error('This server runs as one process only: it knows no POSTHORN_PROCESSES.');
  return 1;
}

function needsPosthorn(scenario: Scenario): boolean {
  return scenario.target === 'posthorn';
}

async function createPosthorn(file: string): Promise<Posthorn> {
  const posthorn = await Posthorn.create(file);
  keep({ stop: () => posthorn.remove() });
  return posthorn;
}

/** Starts the server, or starts it again when it runs with another number of processes. */
async function runWith(posthorn: Posthorn, processes: number): Promise<void> {
  if (posthorn.processes === processes) return;
  await posthorn.stop();
  await posthorn.start(processes);
}

function factsOf({ seconds, rounds }: Options, processes: number, posthorn: Posthorn | undefined): string[] {
  const facts = [`Rounds: ${rounds} of ${seconds} s`];
  if (posthorn?.firstStartMs !== undefined) {
    facts.push(
      `Processes: ${processes}, where a row does not say otherwise`,
      `First start to ready: ${(posthorn.firstStartMs / 1000).toFixed(1)} s (goal 5 s)`,
    );
  }
  return facts;
}

function keep<T extends { stop(): Promise<void> }>(part: T): T {
  started.push(part);
  return part;
}

function stopAll(): Promise<void> {
  stopping ??= (async () => {
    for (const part of started.reverse()) await part.stop();
  })();
  return stopping;
}

/** Several times what a run should take: half an hour for what has a size of its own, and ten times the loads. */
function minutesMax({ rounds, seconds, scenarios }: Options): number {
  return 30 + (scenarios.length * rounds * seconds * 4 * 10) / 60;
}

function save(name: string, args: string[], facts: string[], report: string): void {
  const date = new Date().toISOString().slice(0, 10);
  const folder = new URL('./results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  const file = fileURLToPath(new URL(`${date}-${name}.md`, folder));
  const command = `npm run bench -- ${args.join(' ')}`;
  const list = facts.map((fact) => `- ${fact}`).join('\n');
  writeFileSync(file, `# ${date}: ${name}\n\n\`${command}\`\n\n${list}\n\n${report}\n`);
  console.log(`\nWritten: ${file}`);
}
