import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FULL_SIZES, QUICK_SIZES, SCENARIO_NAMES, type ScenarioName, type Sizes } from './scenarios.ts';

export interface Options {
  scenarios: ScenarioName[];
  /** Length of the publishing of one measurement. */
  seconds: number;
  /** Measurements of each scenario; the table shows the median. */
  rounds: number;
  sizes: Sizes;
  /** Worker processes of Posthorn; undefined: 2 where the server can, else 1. */
  processes: number | undefined;
  /** Name of the file to write, or undefined. */
  save: string | undefined;
  /** The server's main module. */
  server: string;
}

export const USAGE = `Usage: npm run bench -- [options]
  --scenario NAME   one of ${SCENARIO_NAMES.join(', ')}; may be given several times (all)
  --quick           1 round of 0.3 seconds, small sizes: under a minute in all, to see that it works
  --processes N     worker processes of Posthorn, 1 to 16 (2 where the server can; single is also measured with 1)
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
      processes: { type: 'string' },
      save: { type: 'string' },
      server: { type: 'string' },
    },
  });
  if (values.save !== undefined && !/^[a-z0-9][a-z0-9-]{0,40}$/.test(values.save)) {
    throw new Error('--save takes a short name of lower-case letters, digits and hyphens.');
  }
  return {
    scenarios: values.scenario === undefined ? [...SCENARIO_NAMES] : values.scenario.map(readScenario),
    seconds: readNumber('--seconds', values.seconds, 60) ?? (values.quick ? 0.3 : 5),
    rounds: readNumber('--rounds', values.rounds, 20) ?? (values.quick ? 1 : 3),
    sizes: values.quick ? QUICK_SIZES : FULL_SIZES,
    processes: readNumber('--processes', values.processes, 16),
    save: values.save,
    server: path.resolve(values.server ?? fileURLToPath(new URL('../src/main.ts', import.meta.url))),
  };
}

function readScenario(text: string): ScenarioName {
  const name = SCENARIO_NAMES.find((known) => known === text);
  if (name === undefined) throw new Error(`--scenario is one of ${SCENARIO_NAMES.join(', ')}.`);
  return name;
}

function readNumber(option: string, text: string | undefined, max: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > max) throw new Error(`${option} takes a whole number, 1 to ${max}.`);
  return value;
}
