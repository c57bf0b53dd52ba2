import type pg from 'pg';
import { bytesArray, textArray, uuidArray } from '../db/binary-arrays.ts';
import type { Scope } from '../http/caller.ts';
import { type AppError, conflict } from '../kernel/errors.ts';
import type { EventKey, PreparedEvent, StoredEvent, Submission } from './prepared-event.ts';

/** Who has a key: the event it was first used for. */
interface Holder {
  original: { id: string; externalId: string | null; deliveryCount: number };
  contentHash: Buffer;
}

/**
 * Decides within the commit's transaction which events are new, which were published before, and which requests must
 * be refused because a key of theirs was used for something else. It sets `results` of each submission.
 *
 * Two transactions that want the same key wait for each other in the index, so of twenty equal publishes exactly one
 * finds the key free, whichever nodes they came to.
 */
export async function claimKeys(client: pg.ClientBase, submissions: Submission[]): Promise<Map<Submission, AppError>> {
  const wanted = firstUses(submissions);
  const claimed = await insertKeys(client, wanted);
  const holders = await findHolders(
    client,
    wanted.filter(({ name }) => !claimed.has(name)),
  );

  const refused = new Map<Submission, AppError>();
  for (const submission of submissions) {
    const decided = decide(submission, holders);
    if (decided.kind === 'conflict') {
      refused.set(submission, keyConflict(decided.key));
      continue;
    }
    submission.results = decided.results;
    // From here on what this request stores is what later ones in the same commit meet.
    for (const [name, holder] of decided.claims) holders.set(name, holder);
  }
  // A key whose first user was refused goes to the next one of this commit, or is free again.
  const orphaned = wanted.filter(({ name, event }) => claimed.has(name) && !isHeldBy(holders.get(name), event));
  if (orphaned.length > 0) await passOn(client, orphaned, submissions, holders);
  return refused;
}

async function passOn(
  client: pg.ClientBase,
  orphaned: NamedKey[],
  submissions: Submission[],
  holders: ReadonlyMap<string, Holder>,
): Promise<void> {
  await deleteKeys(client, orphaned);
  const names = new Set(orphaned.map(({ name }) => name));
  const heirs = submissions.flatMap(({ events }) =>
    events.flatMap((event) =>
      event.keys
        .map((key) => ({ name: nameOf(event, key), key, event }))
        .filter(({ name }) => names.has(name) && isHeldBy(holders.get(name), event)),
    ),
  );
  if (heirs.length > 0) await insertKeys(client, heirs);
}

interface NamedKey {
  name: string;
  key: EventKey;
  event: PreparedEvent;
}

/** Each key once, with the event that uses it first, in one order for all transactions. */
function firstUses(submissions: Submission[]): NamedKey[] {
  const uses = new Map<string, NamedKey>();
  for (const { events } of submissions) {
    for (const event of events) {
      for (const key of event.keys) {
        const name = nameOf(event, key);
        if (!uses.has(name)) uses.set(name, { name, key, event });
      }
    }
  }
  return [...uses.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function nameOf(scope: Scope, key: Pick<EventKey, 'kind' | 'key'>): string {
  return `${scope.tenantId}/${scope.environmentId}/${key.kind}/${key.key}`;
}

type Decision =
  | { kind: 'conflict'; key: EventKey }
  | { kind: 'decided'; results: StoredEvent[]; claims: Map<string, Holder> };

function decide(submission: Submission, holders: ReadonlyMap<string, Holder>): Decision {
  const results: StoredEvent[] = [];
  const claims = new Map<string, Holder>();
  for (const event of submission.events) {
    let original: Holder['original'] | undefined;
    for (const key of event.keys) {
      const name = nameOf(event, key);
      const holder = claims.get(name) ?? holders.get(name);
      if (holder === undefined) continue;
      if (!holder.contentHash.equals(key.contentHash)) return { kind: 'conflict', key };
      original = holder.original;
    }
    if (original !== undefined) {
      results.push({ kind: 'duplicate', original });
      continue;
    }
    results.push({ kind: 'stored' });
    const own = { id: event.event.uuid, externalId: event.externalId, deliveryCount: event.deliveries.length };
    for (const key of event.keys) claims.set(nameOf(event, key), { original: own, contentHash: key.contentHash });
  }
  return { kind: 'decided', results, claims };
}

function isHeldBy(holder: Holder | undefined, event: PreparedEvent): boolean {
  return holder?.original.id === event.event.uuid;
}

function keyConflict(key: EventKey): AppError {
  const name = key.kind === 'event_id' ? 'event_id' : 'Idempotency-Key';
  return conflict(
    key.kind === 'event_id' ? 'event_id_reused' : 'idempotency_key_reused',
    `This ${name} was used before for another event; nothing was accepted.`,
  );
}

async function insertKeys(client: pg.ClientBase, keys: NamedKey[]): Promise<Set<string>> {
  const result = await client.query<KeyColumns>({
    name: 'claim-event-keys',
    text: `INSERT INTO event_keys (tenant_id, environment_id, kind, key, event_id, body_hash, created_at)
      SELECT tenant_id, environment_id, kind, key, event_id, body_hash, now()
      FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::bytea[])
        AS k (tenant_id, environment_id, kind, key, event_id, body_hash)
      ON CONFLICT DO NOTHING RETURNING tenant_id, environment_id, kind, key`,
    values: [
      ...identity(keys),
      uuidArray(keys.map(({ event }) => event.event.uuid)),
      bytesArray(keys.map(({ key }) => key.contentHash)),
    ],
  });
  return new Set(result.rows.map(nameOfRow));
}

async function findHolders(client: pg.ClientBase, keys: NamedKey[]): Promise<Map<string, Holder>> {
  if (keys.length === 0) return new Map();
  const result = await client.query<
    KeyColumns & { event_id: string; body_hash: Buffer; external_id: string | null; delivery_count: number | null }
  >({
    name: 'find-event-keys',
    text: `SELECT k.tenant_id, k.environment_id, k.kind, k.key, k.event_id, k.body_hash, e.external_id, e.delivery_count
      FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS i (tenant_id, environment_id, kind, key)
      JOIN event_keys k USING (tenant_id, environment_id, kind, key)
      LEFT JOIN events e ON e.tenant_id = k.tenant_id AND e.environment_id = k.environment_id AND e.id = k.event_id`,
    values: identity(keys),
  });
  return new Map(
    result.rows.map((row) => [
      nameOfRow(row),
      {
        contentHash: row.body_hash,
        original: { id: row.event_id, externalId: row.external_id, deliveryCount: row.delivery_count ?? 0 },
      },
    ]),
  );
}

async function deleteKeys(client: pg.ClientBase, keys: NamedKey[]): Promise<void> {
  await client.query({
    name: 'delete-event-keys',
    text: `DELETE FROM event_keys k
      USING unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS i (tenant_id, environment_id, kind, key)
      WHERE k.tenant_id = i.tenant_id AND k.environment_id = i.environment_id AND k.kind = i.kind AND k.key = i.key`,
    values: identity(keys),
  });
}

interface KeyColumns {
  tenant_id: string;
  environment_id: string;
  kind: EventKey['kind'];
  key: string;
}

function nameOfRow(row: KeyColumns): string {
  return nameOf({ tenantId: row.tenant_id, environmentId: row.environment_id }, row);
}

function identity(keys: NamedKey[]): Buffer[] {
  return [
    uuidArray(keys.map(({ event }) => event.tenantId)),
    uuidArray(keys.map(({ event }) => event.environmentId)),
    textArray(keys.map(({ key }) => key.kind)),
    textArray(keys.map(({ key }) => key.key)),
  ];
}
