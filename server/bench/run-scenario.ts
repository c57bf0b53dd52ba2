import { runAnalytics } from './analytics.ts';
import { runBacklog } from './backlog.ts';
import { runHanging } from './hanging.ts';
import type { Options } from './options.ts';
import { watchOtherLoad } from './processes.ts';
import { runRestart } from './restart.ts';
import { runRetention } from './retention.ts';
import { runLoad } from './run-load.ts';
import type { Running, ScenarioResult } from './running.ts';
import type { Scenario } from './scenarios.ts';

/** @param result is filled as far as the scenario comes. */
export async function runScenario(
  running: Running,
  scenario: Scenario,
  options: Options,
  result: ScenarioResult,
): Promise<void> {
  const otherLoad = watchOtherLoad();
  switch (scenario.kind) {
    case 'load':
      await runLoad(running, scenario, options, result);
      break;
    case 'restart':
      await runRestart(running, options, result);
      break;
    case 'hanging':
      await runHanging(running, options, result);
      break;
    case 'retention':
      await runRetention(running, options, result);
      break;
    case 'analytics':
      await runAnalytics(running, options, result);
      break;
    case 'backlog':
      await runBacklog(running, options, result);
      break;
  }
  result.otherLoad = otherLoad();
}
