import type { Database } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';

/** What the routes of analytics need. */
export interface AnalyticsDeps {
  db: Database;
  clock: Clock;
  webhooks: WebhookDirectory;
}
