import { Worker } from 'node:worker_threads';
import { nowUs } from './clock.ts';
import { Connection, type PublishOutcome } from './connection.ts';
import { type Distribution, distributionOf } from './figures.ts';
import type { MetronomeOptions } from './metronome.ts';
import { answerCalls } from './part.ts';
import type { PublishRequestOptions } from './publish-request.ts';

export interface Load {
  run: number;
  request: PublishRequestOptions;
  /** Keep-alive connections, each with one request under way at most. */
  connections: number;
  /** Events to publish at most; a whole number of batches. */
  eventsMax: number;
  /** Begin no request after this time. */
  durationMs: number;
  /**
   * Undefined: closed loop, each connection sends its next request when the last one is answered. A number: open loop,
   * requests are due at this rate whatever the answers do, and their latency counts from when they were due, so that a
   * stall is charged to every request that it delayed ("coordinated omission").
   */
  requestsPerSecond?: number;
}

/** What the generator saw of one run. */
export interface LoadReport {
  /** Events sent, numbered 0 to `published - 1`. */
  published: number;
  /** Events that were not accepted (2xx). */
  refused: number[];
  /** Events that may have been accepted: their connection broke, or no answer came in time. */
  unanswered: number[];
  /** The first few reasons. */
  problems: string[];
  /** Of the first request and of the last answer; see clock.ts. */
  startUs: number;
  endUs: number;
  /** From sent, or due, to the answer. */
  answer: Distribution | undefined;
  /** How late requests of an open loop were sent; large values mean that the generator could not keep the rate. */
  lateness: Distribution | undefined;
}

export type GeneratorCalls = {
  run(load: Load): Promise<LoadReport>;
};

/** A publish that has no answer after this time counts as unanswered. */
const ANSWER_MS_MAX = 30_000;
const PROBLEMS_KEPT = 5;
/** So many requests that were not accepted end the run: the figures would mean nothing. */
const PROBLEMS_MAX = 100;

answerCalls({ run } satisfies GeneratorCalls);

async function run(load: Load): Promise<LoadReport> {
  const { batchSize } = load.request;
  const refused: number[] = [];
  const unanswered: number[] = [];
  const problems: string[] = [];
  const answersUs: number[] = [];
  const latenessUs: number[] = [];
  /** Requests of an open loop that are due and wait for a free connection. */
  const dueUs: number[] = [];
  const idle: Connection[] = [];
  let problemCount = 0;
  let published = 0;
  let underWay = 0;
  let endUs = 0;
  /** Closed loop: to the deadline. Open loop: to the last tick. */
  let beginning = true;
  const over = Promise.withResolvers<void>();

  const connections = await Promise.all(
    Array.from({ length: load.connections }, () => Connection.open(load.request, onOutcome)),
  );
  const startUs = nowUs();
  const deadlineUs = startUs + load.durationMs * 1000;
  const giveUp = setTimeout(() => {
    for (const connection of connections) connection.fail(`no answer in ${ANSWER_MS_MAX} ms`);
    over.resolve();
  }, load.durationMs + ANSWER_MS_MAX);

  const metronome = load.requestsPerSecond === undefined ? undefined : startMetronome(load.requestsPerSecond);
  idle.push(...connections);
  if (metronome === undefined) for (const connection of idle.splice(0)) next(connection);
  await over.promise;
  clearTimeout(giveUp);
  await metronome?.terminate();
  for (const connection of connections) connection.close();
  return {
    published,
    refused,
    unanswered,
    problems,
    startUs,
    endUs,
    answer: distributionOf(Float64Array.from(answersUs)),
    lateness: distributionOf(Float64Array.from(latenessUs)),
  };

  function next(connection: Connection): void {
    const now = nowUs();
    if (problemCount >= PROBLEMS_MAX || published + batchSize > load.eventsMax) beginning = false;
    if (metronome === undefined) {
      if (now >= deadlineUs) beginning = false;
      if (beginning) send(connection, now);
    } else {
      const due = problemCount >= PROBLEMS_MAX ? undefined : dueUs.shift();
      if (due === undefined) idle.push(connection);
      else {
        latenessUs.push(now - due);
        send(connection, due);
      }
    }
    if (!beginning && underWay === 0) over.resolve();
  }

  function send(connection: Connection, sentUs: number): void {
    connection.publish({ run: load.run, sequence: published, sentUs });
    published += batchSize;
    underWay += 1;
  }

  function onOutcome(connection: Connection, outcome: PublishOutcome): void {
    const { sequence, sentUs } = connection.marker;
    underWay -= 1;
    endUs = nowUs();
    answersUs.push(endUs - sentUs);
    if (outcome.kind !== 'accepted') {
      problemCount += 1;
      if (problems.length < PROBLEMS_KEPT) problems.push(outcome.reason);
      const list = outcome.kind === 'refused' ? refused : unanswered;
      for (let event = 0; event < batchSize; event++) list.push(sequence + event);
    }
    if (connection.open) next(connection);
    // A closed loop ends with its last connection; an open one has its ticks.
    else if (underWay === 0 && (metronome === undefined || !beginning)) over.resolve();
  }

  function startMetronome(requestsPerSecond: number): Worker {
    const intervalUs = 1_000_000 / requestsPerSecond;
    const wanted = Math.floor((load.durationMs * 1000) / intervalUs);
    const count = Math.min(wanted, Math.floor(load.eventsMax / batchSize));
    // The thread needs a moment to start.
    const firstUs = nowUs() + 100_000;
    const workerData: MetronomeOptions = { startUs: firstUs, intervalUs, count };
    const worker = new Worker(new URL('./metronome.ts', import.meta.url), { workerData });
    worker.on('error', over.reject);
    worker.on('message', (tick: number) => {
      dueUs.push(Math.floor(firstUs + tick * intervalUs));
      if (tick === count - 1) beginning = false;
      const connection = idle.pop();
      if (connection !== undefined) next(connection);
    });
    return worker;
  }
}
