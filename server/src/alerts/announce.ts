import { sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { OperationalEvent } from '../events/operational-event.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import { type IncidentRow, isForOwner } from './incident-rows.ts';
import { scopeOf } from './rule-rows.ts';
import { showIncident } from './shown.ts';

/** After so long it is tried again: the node that had it in hand was killed, or could not publish. */
const AGAIN_MS = 30_000;

export interface AnnounceDeps {
  db: Database;
  clock: Clock;
  publish: (event: OperationalEvent) => Promise<void>;
}

/**
 * Publishes what is due to be told of one incident; false when nothing is. That it is to be told is in the incident's
 * row, written with the incident itself, so it is told whoever is killed when; and an event has the id of what it
 * tells, so that twice makes one.
 */
export async function announceNext({ db, clock, publish }: AnnounceDeps): Promise<boolean> {
  const now = new Date(clock.now());
  const takenUntil = new Date(now.getTime() + AGAIN_MS);
  const taken = await sql<IncidentRow & { owner: string | null }>`
    UPDATE alert_incidents i SET announce_at = ${takenUntil}
    FROM (
      SELECT tenant_id, environment_id, id FROM alert_incidents
      WHERE announce_at <= ${now} ORDER BY announce_at LIMIT 1 FOR UPDATE SKIP LOCKED
    ) due
    WHERE i.tenant_id = due.tenant_id AND i.environment_id = due.environment_id AND i.id = due.id
    RETURNING i.*, (SELECT owner FROM webhooks w WHERE w.tenant_id = i.tenant_id AND w.id = i.webhook_id) AS owner`.execute(
    db,
  );
  const [row] = taken.rows;
  if (row === undefined) return false;
  if (!row.fired_announced) await publishOnce(publish, alertEvent(row, row.owner, 'alert.fired'));
  const isOver = row.status === 'resolved';
  if (isOver && !row.resolved_announced) await publishOnce(publish, alertEvent(row, row.owner, 'alert.resolved'));
  await db
    .updateTable('alert_incidents')
    .set({
      fired_announced: true,
      ...(isOver && { resolved_announced: true }),
      // It may have been resolved meanwhile, and then there is more to tell.
      announce_at: sql`CASE WHEN announce_at = ${takenUntil} THEN NULL ELSE announce_at END`,
    })
    .where('tenant_id', '=', row.tenant_id)
    .where('environment_id', '=', row.environment_id)
    .where('id', '=', row.id)
    .execute();
  return true;
}

/** What is refused would be refused again; what cannot be stored now is tried again later. */
async function publishOnce(publish: AnnounceDeps['publish'], event: OperationalEvent): Promise<void> {
  try {
    await publish(event);
  } catch (error) {
    if (!(error instanceof AppError) || error.status >= 500) throw error;
  }
}

/** The same for every try: only what does not change any more once it is told. */
function alertEvent(row: IncidentRow, owner: string | null, type: 'alert.fired' | 'alert.resolved'): OperationalEvent {
  const incidentId = formatId('incident', row.id);
  const { rule_id, rule_name, metric, threshold, period, action, webhook_id, value, fired_at, ...rest } =
    showIncident(row);
  const over = type === 'alert.resolved';
  const fired = { incident_id: incidentId, rule_id, rule_name, metric, threshold, period, action, webhook_id, value };
  const forOwner = isForOwner(row);
  return {
    scope: scopeOf(row),
    type,
    id: `${type}:${incidentId}`,
    occurredAt: (over ? row.resolved_at : null) ?? row.fired_at,
    data: {
      ...fired,
      fired_at,
      ...(over && {
        worst_value: rest.worst_value,
        last_value: rest.last_value,
        resolved_at: rest.resolved_at,
        resolution: rest.resolution,
      }),
    },
    ...(row.target_webhook_id === null
      ? { isFor: (target) => target.owner === null || (forOwner && target.owner === owner) }
      : // It is told whatever it is subscribed to, and nobody else is.
        { to: row.target_webhook_id, isFor: () => false }),
  };
}
