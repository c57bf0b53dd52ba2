import { setTimeout as sleep } from 'node:timers/promises';
import { type Backlog, writeBacklog } from './database.ts';
import { median } from './figures.ts';
import { arrivalFaults, IDLE_MS_MAX, type Measurement } from './measure.ts';
import { type Memory, watchMemory } from './memory.ts';
import type { Options } from './options.ts';
import { difference, processorTimeOf } from './processes.ts';
import { compareRecords } from './records.ts';
import { checkRecords, type Figure, posthornOf, publishSingle, type Running, type ScenarioResult } from './running.ts';
import type { Sizes } from './scenarios.ts';
import { percent, tenths, whole } from './table.ts';

const TENANT = 'bench-backlog';
const EVENT_TYPE = 'bench.event';

/** Paused ones that are resumed to drain, others that stay paused, and failing ones that wait for their retries. */
const RESUMED = 10;
const PAUSED = 40;
const FAILING = 50;

const MEMORY_GOAL_MB = 400;
const START_GOAL_MS = 5_000;
const DRAIN_GOAL = 0.8;
const DRAIN_MS_MAX = 300_000;

/**
 * Measures single publishes, writes a million waiting deliveries, starts the server with them, watches it while they
 * wait, resumes ten paused webhooks, and watches it deliver what was held for those.
 */
export async function runBacklog(running: Running, options: Options, result: ScenarioResult): Promise<void> {
  const posthorn = posthornOf(running);
  const { sizes } = options;
  const { processes } = posthorn;
  const fresh: Measurement[] = [];
  for (let round = 1; round <= options.rounds; round++) {
    fresh.push(await publishSingle(running, options.seconds, `single ${round}`, result));
  }
  if (running.single !== undefined) await checkRecords(running, running.single, result);

  const backlog = await prepare(running, sizes);
  const all = [...backlog.resumed, ...backlog.paused, ...backlog.failing];
  const writeMs = performance.now();
  await posthorn.database((client) => writeBacklog(client, backlog));
  const writtenS = (performance.now() - writeMs) / 1000;
  await posthorn.stop();
  const readyMs = await posthorn.start(processes);

  const waiting = whole(sizes.backlog);
  result.figures.push({
    what: `start with ${waiting} waiting: ready`,
    measured: `${tenths(readyMs / 1000)} s`,
    goal: `${START_GOAL_MS / 1000} s`,
    met: readyMs < START_GOAL_MS,
  });
  result.figures.push(...(await watchRest(posthorn.pid, sizes.restSeconds)));
  result.figures.push(...(await drain(running, backlog, fresh, result)));
  result.figures.push({ what: `written with SQL: ${waiting} waiting`, measured: `${whole(writtenS)} s` });

  const expected = { delivered: sizes.drained, waiting: sizes.backlog - sizes.drained };
  const compared = await compareRecords(posthorn, all, expected);
  result.faults.push(...compared.faults);
}

async function prepare(running: Running, sizes: Sizes): Promise<Backlog> {
  const { api } = posthornOf(running);
  await api.createTenants([TENANT]);
  const ids = await api.createWebhooks(
    Array.from({ length: RESUMED + PAUSED + FAILING }, (_, index) => ({
      tenant: TENANT,
      eventType: EVENT_TYPE,
      url: `http://127.0.0.1:${running.sinkPort}/w/${index}`,
      paused: index < RESUMED + PAUSED,
    })),
  );
  running.stage.run += 1;
  return {
    tenant: TENANT,
    eventType: EVENT_TYPE,
    run: running.stage.run,
    resumed: ids.slice(0, RESUMED),
    resumedDeliveries: sizes.drained,
    paused: ids.slice(RESUMED, RESUMED + PAUSED),
    failing: ids.slice(RESUMED + PAUSED),
    deliveries: sizes.backlog,
  };
}

/** What waiting costs when nothing is due. */
async function watchRest(pid: number, seconds: number): Promise<Figure[]> {
  const before = processorTimeOf(pid);
  const watch = watchMemory(pid);
  await sleep(seconds * 1000);
  const memory = watch.stop();
  const used = difference(before, processorTimeOf(pid));
  const figures = memoryFigures('while they wait', memory);
  if (used === undefined) return figures;
  const ofOneCore = (ms: number) => `${tenths(ms / seconds / 10)} %`;
  const measured = `Node ${ofOneCore(used.nodeMs)}, PostgreSQL ${ofOneCore(used.postgresMs)}`;
  return [...figures, { what: 'processor while they wait, of one core', measured }];
}

async function drain(
  running: Running,
  backlog: Backlog,
  fresh: readonly Measurement[],
  result: ScenarioResult,
): Promise<Figure[]> {
  const { stage } = running;
  const posthorn = posthornOf(running);
  const eventsMax = backlog.resumedDeliveries;
  await stage.sink.call('begin', { run: backlog.run, eventsMax, webhooks: RESUMED, byTurns: true });
  const watch = watchMemory(posthorn.pid);
  await posthorn.api.setStatus(TENANT, backlog.resumed, 'active');
  const publishes = { published: eventsMax, refused: [], unanswered: [] };
  const came = await stage.sink.call('finish', { ...publishes, idleMs: IDLE_MS_MAX, waitMs: DRAIN_MS_MAX });
  const memory = watch.stop();
  result.faults.push(...arrivalFaults(came).map((fault) => `drain: ${fault}`));
  const perSecond = came.arrived / ((came.lastArrivalUs - came.firstArrivalUs) / 1_000_000);
  const freshPerSecond = median(fresh.map(({ deliveriesPerSecond }) => deliveriesPerSecond));
  const share = perSecond / freshPerSecond;
  const rates = `${whole(perSecond)}/s, fresh ${whole(freshPerSecond)}/s`;
  return [
    ...memoryFigures('while some are delivered', memory),
    {
      what: `rate of delivering ${whole(backlog.resumedDeliveries)} of them`,
      measured: `${percent(share)} (${rates})`,
      goal: `${DRAIN_GOAL * 100} %`,
      met: share >= DRAIN_GOAL,
    },
  ];
}

function memoryFigures(when: string, memory: Memory | undefined): Figure[] {
  if (memory === undefined) return [];
  const { nodeMb, nodeSharedOnceMb, nodeProcesses, postgresMb } = memory;
  const several = `, ${nodeProcesses} processes; shared pages once: ${whole(nodeSharedOnceMb)} MB`;
  return [
    {
      what: `resident memory of Node, ${when}`,
      measured: `${whole(nodeMb)} MB${nodeProcesses > 1 ? several : ''}`,
      goal: `${MEMORY_GOAL_MB} MB`,
      met: nodeMb < MEMORY_GOAL_MB,
    },
    { what: `memory of PostgreSQL, ${when}`, measured: `${whole(postgresMb)} MB` },
  ];
}
