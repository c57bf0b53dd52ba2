import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { SCENARIO_NAMES, type ScenarioName } from './scenarios.ts';

export interface Options {
  scenarios: ScenarioName[];
  /** Length of the publishing of one measurement. */
  seconds: number;
  /** Measurements of each scenario; the table shows the median. */
  rounds: number;
  /** Name of the file to write, or undefined. */
  save: string | undefined;
  /** The server's main module. */
  server: string;
}

export const USAGE = `Usage: npm run bench -- [options]
  --scenario NAME   one of ${SCENARIO_NAMES.join(', ')}; may be given several times (all)
  --quick           1 round of 1 second a scenario: under a minute in all, to see that it works
  --seconds N       publish for N seconds in each measurement, 1 to 60 (5)
  --rounds N        measurements of each scenario, 1 to 20 (3)
  --save NAME       write server/bench/results/<date>-<name>.md
  --server FILE     measure another checkout's server/src/main.ts
`;

/** @throws Error that says what is wrong with the arguments. */
export function readOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      scenario: { type: 'string', multiple: true },
      quick: { type: 'boolean', default: false },
      seconds: { type: 'string' },
      rounds: { type: 'string' },
      save: { type: 'string' },
      server: { type: 'string' },
    },
  });
  if (values.save !== undefined && !/^[a-z0-9][a-z0-9-]{0,40}$/.test(values.save)) {
    throw new Error('--save takes a short name of lower-case letters, digits and hyphens.');
  }
  return {
    scenarios: values.scenario === undefined ? [...SCENARIO_NAMES] : values.scenario.map(readScenario),
    seconds: readNumber('--seconds', values.seconds, values.quick ? 1 : 5, 60),
    rounds: readNumber('--rounds', values.rounds, values.quick ? 1 : 3, 20),
    save: values.save,
    server: path.resolve(values.server ?? fileURLToPath(new URL('../src/main.ts', import.meta.url))),
  };
}

function readScenario(text: string): ScenarioName {
  const name = SCENARIO_NAMES.find((known) => known === text);
  if (name === undefined) throw new Error(`--scenario is one of ${SCENARIO_NAMES.join(', ')}.`);
  return name;
}

function readNumber(option: string, text: string | undefined, fallback: number, max: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > max) throw new Error(`${option} takes a whole number, 1 to ${max}.`);
  return value;
}
