import { attemptName, type ChaosRecord, deliveryName } from './chaos-account.ts';
import type { Folder } from './folder.ts';

/** The number that the event `e` carries. */
const EVENT = `(convert_from(e.data, 'UTF8')::jsonb ->> 'n')::int AS event`;

/** Deliveries that have not ended well yet, or that somebody still answers for. */
export function unsettled(folder: Folder): Promise<object[]> {
  return folder.query(`
    SELECT id, status, lease_node, due_at FROM deliveries
    WHERE status <> 'delivered' OR lease_node IS NOT NULL OR due_at IS NOT NULL LIMIT 20`);
}

/** Each stored event with the number of its deliveries. */
export function storedEvents(folder: Folder): Promise<{ event: number; delivered: number }[]> {
  return folder.query(`
    SELECT ${EVENT}, count(d.id)::int AS delivered
    FROM events e LEFT JOIN deliveries d ON d.event_id = e.id GROUP BY e.id, e.data ORDER BY 1`);
}

/** Deliveries of which not each attempt is on record once, or not the last one and no other has succeeded. */
export function wronglyRecorded(folder: Folder): Promise<object[]> {
  return folder.query(`
    SELECT d.id, d.attempt_count, array_agg(a.number ORDER BY a.number) AS numbers
    FROM deliveries d LEFT JOIN attempts a ON a.delivery_id = d.id GROUP BY d.id, d.attempt_count
    HAVING array_agg(a.number ORDER BY a.number) <> (SELECT array_agg(n) FROM generate_series(1, d.attempt_count) n)
      OR array_agg(a.number) FILTER (WHERE a.response_status = 200) IS DISTINCT FROM ARRAY[d.attempt_count]`);
}

/** The events of a webhook with their ordering keys. */
export function keyedEvents(folder: Folder, webhook: string): Promise<{ key: string; event: number }[]> {
  return folder.query(`
    SELECT d.ordering_key AS key, ${EVENT}
    FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id JOIN events e ON e.id = d.event_id
    WHERE w.name = '${webhook}'`);
}

/** What the database knows at this moment. */
export async function onRecord(folder: Folder): Promise<ChaosRecord> {
  const rows = await folder.query<{ path: string; event: number; attempt: number; succeeded: boolean }>(`
    SELECT w.name AS path, ${EVENT}, a.number AS attempt, a.response_status = 200 AS succeeded
    FROM attempts a JOIN webhooks w ON w.id = a.webhook_id JOIN events e ON e.id = a.event_id`);
  return {
    atMs: Date.now(),
    attempts: new Set(rows.map(attemptName)),
    delivered: new Set(rows.filter(({ succeeded }) => succeeded).map(deliveryName)),
  };
}
