import type { Transaction } from 'kysely';
import type { AuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { notFound } from '../kernel/errors.ts';
import { isEventTypeName } from './event-type-name.ts';
import { type EventTypeRow, findEventType } from './queries.ts';

export interface CatalogRouteDeps {
  db: Database;
  clock: Clock;
  audit: AuditLog;
  /** Called after each committed change and before its answer, so that this node's next request sees it. */
  onChange: (change: Change) => void;
}

/** @throws AppError 404, also for a text that is no name: what a path says may hold anything, even a NUL. */
export async function readEventType(
  db: Database | Transaction<Tables>,
  scope: Scope,
  name: string,
): Promise<EventTypeRow> {
  const row = isEventTypeName(name) ? await findEventType(db, scope, name) : undefined;
  if (row === undefined) throw notFound('event type');
  return row;
}
