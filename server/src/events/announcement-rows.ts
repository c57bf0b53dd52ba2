import { type Selectable, sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { AnnouncedType } from '../webhooks/announcements.ts';
import { countOne, PACE_LIMITS, type Pace } from './announcement-pace.ts';

/** Something to tell of that is not published yet. */
export type Announcement = Selectable<Tables['announcements']>;

/** Rows that a node takes at once. */
const ROWS_MAX = 500;

/** After so long it is taken again: the node that had it in hand was killed. */
const AGAIN_MS = 30_000;

const DAY_MS = 86_400_000;

/**
 * Takes what is due, the oldest first; undefined when nothing is. What comes too often is let go. What is decided of a row
 * is stored as it is taken, so that whoever publishes it, and however often, tells the same.
 */
export function takeAnnouncements(db: Database, nowMs: number): Promise<Announcement[] | undefined> {
  return db.transaction().execute(async (trx) => {
    const due = await sql<Announcement>`
      SELECT * FROM announcements WHERE due_at <= ${new Date(nowMs)}
      ORDER BY due_at, id LIMIT ${ROWS_MAX} FOR UPDATE SKIP LOCKED`.execute(trx);
    if (due.rows.length === 0) return undefined;
    const paces = await lockPaces(trx, due.rows.filter(isPaced), nowMs);
    const [told, leftOut]: [Announcement[], Announcement[]] = [[], []];
    for (const row of due.rows) {
      const [limit, pace] = [limitOf(row), paces.get(paceKey(row))];
      const isCounted = isPaced(row) && limit !== undefined && pace !== undefined;
      const omitted = isCounted ? countOne(pace, limit, nowMs) : (row.omitted_before ?? 0);
      if (omitted === undefined) leftOut.push(row);
      else told.push({ ...row, omitted_before: omitted });
    }
    await storePaces(trx, [...paces.values()]);
    await forgetAnnouncements(trx, leftOut);
    await sql`
      UPDATE announcements a SET due_at = ${new Date(nowMs + AGAIN_MS)}, omitted_before = i.omitted
      FROM unnest(${tenants(told)}::uuid[], ${environments(told)}::uuid[], ${told.map(({ id }) => id)}::bigint[],
        ${told.map((row) => row.omitted_before)}::int[]) AS i (tenant_id, environment_id, id, omitted)
      WHERE a.tenant_id = i.tenant_id AND a.environment_id = i.environment_id AND a.id = i.id`.execute(trx);
    return told;
  });
}

/** They are published, or nobody wants them. */
export async function forgetAnnouncements(db: Database, rows: readonly Announcement[]): Promise<void> {
  if (rows.length === 0) return;
  await sql`
    DELETE FROM announcements a
    USING unnest(${tenants(rows)}::uuid[], ${environments(rows)}::uuid[], ${rows.map(({ id }) => id)}::bigint[])
      AS i (tenant_id, environment_id, id)
    WHERE a.tenant_id = i.tenant_id AND a.environment_id = i.environment_id AND a.id = i.id`.execute(db);
}

/** They could not be published, and are due again at a time. */
export async function postponeAnnouncements(db: Database, rows: readonly Announcement[], dueAt: Date): Promise<void> {
  if (rows.length === 0) return;
  await sql`
    UPDATE announcements a SET due_at = ${dueAt}
    FROM unnest(${tenants(rows)}::uuid[], ${environments(rows)}::uuid[], ${rows.map(({ id }) => id)}::bigint[])
      AS i (tenant_id, environment_id, id)
    WHERE a.tenant_id = i.tenant_id AND a.environment_id = i.environment_id AND a.id = i.id`.execute(db);
}

/** Forgets how often was told of what has long been quiet; of all tenants. */
export async function purgeAnnouncementPaces(db: Database, nowMs: number): Promise<void> {
  await sql`DELETE FROM announcement_paces WHERE since < ${new Date(nowMs - DAY_MS)} AND omitted = 0`.execute(db);
}

/** The nil UUID: the environment as a whole. */
const ENVIRONMENT = '00000000-0000-0000-0000-000000000000';

const tenants = (rows: readonly { tenant_id: string }[]) => rows.map((row) => row.tenant_id);
const environments = (rows: readonly { environment_id: string }[]) => rows.map((row) => row.environment_id);

function limitOf(row: Announcement) {
  return PACE_LIMITS[row.type as AnnouncedType];
}

/** It may come too often, and nothing was decided of it yet. */
function isPaced(row: Announcement): boolean {
  return row.omitted_before === null && limitOf(row) !== undefined;
}

function subjectOf(row: Announcement): string {
  return row.type === 'delivery.dead' ? ENVIRONMENT : row.webhook_id;
}

function paceKey(row: Announcement): string {
  return `${row.tenant_id} ${row.environment_id} ${subjectOf(row)}`;
}

interface PaceRow extends Pace {
  tenant_id: string;
  environment_id: string;
  subject_id: string;
}

/** Of all nodes one counts at a time. In the order of the keys, so that two nodes do not wait for each other. */
async function lockPaces(
  trx: Transaction<Tables>,
  rows: readonly Announcement[],
  nowMs: number,
): Promise<Map<string, PaceRow>> {
  const keys = new Map(rows.map((row) => [paceKey(row), row]));
  const sorted = [...keys.keys()].sort().map((key) => keys.get(key) as Announcement);
  if (sorted.length === 0) return new Map();
  const locked = await sql<Selectable<Tables['announcement_paces']>>`
    INSERT INTO announcement_paces AS p (tenant_id, environment_id, subject_id, since, told, omitted)
    SELECT tenant_id, environment_id, subject_id, ${new Date(nowMs)}, 0, 0
    FROM unnest(${tenants(sorted)}::uuid[], ${environments(sorted)}::uuid[], ${sorted.map(subjectOf)}::uuid[])
      AS i (tenant_id, environment_id, subject_id)
    ON CONFLICT (tenant_id, environment_id, subject_id) DO UPDATE SET told = p.told
    RETURNING *`.execute(trx);
  return new Map(
    locked.rows.map(({ tenant_id, environment_id, subject_id, since, told, omitted }) => [
      `${tenant_id} ${environment_id} ${subject_id}`,
      { tenant_id, environment_id, subject_id, sinceMs: since.getTime(), told, omitted },
    ]),
  );
}

async function storePaces(trx: Transaction<Tables>, paces: readonly PaceRow[]): Promise<void> {
  if (paces.length === 0) return;
  await sql`
    UPDATE announcement_paces p SET since = i.since, told = i.told, omitted = i.omitted
    FROM unnest(${tenants(paces)}::uuid[], ${environments(paces)}::uuid[],
      ${paces.map(({ subject_id }) => subject_id)}::uuid[],
      ${paces.map(({ sinceMs }) => new Date(sinceMs))}::timestamptz[],
      ${paces.map(({ told }) => told)}::int[], ${paces.map(({ omitted }) => omitted)}::int[]
    ) AS i (tenant_id, environment_id, subject_id, since, told, omitted)
    WHERE p.tenant_id = i.tenant_id AND p.environment_id = i.environment_id AND p.subject_id = i.subject_id`.execute(
    trx,
  );
}
