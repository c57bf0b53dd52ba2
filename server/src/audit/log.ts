import type { Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';
import { notFound } from '../kernel/errors.ts';
import type { IdSource } from '../kernel/ids.ts';
import { appendEntry, storable } from './append.ts';
import type { Auditor } from './auditor.ts';
import { changedFields, jsonOf } from './changed-fields.ts';
import { PLATFORM_CHAIN } from './hash.ts';

/** What was done, to what. */
export interface AuditedAction {
  /** What and how, e.g. `webhook.updated`. */
  action: `${string}.${string}`;
  /** What it was done to, e.g. `webhook` and its TypeID. */
  resourceType: string;
  resourceId: string;
  /** The row as the API shows it; absent: it was not there, or says nothing. Secrets in it are `hidden`. */
  before?: object | undefined;
  after?: object | undefined;
  /** What else is worth knowing. */
  details?: object | undefined;
  /** The environment it belongs to; null: none. The auditor's own unless it is given. */
  environmentId?: string | null;
  /** It outlives the tenant, or comes before it: in the chain of the platform. */
  ofPlatform?: true;
}

export interface AuditLog {
  /**
   * Writes an entry, in the transaction of the change, as its last statement (see `appendEntry`): there is no change
   * without its entry and no entry without its change. A change that changed no field is none, and is not written.
   *
   * @throws AppError 404 when the tenant is gone.
   */
  record(trx: Transaction<Tables>, by: Auditor, done: AuditedAction): Promise<void>;
}

/** Called with what changed, as the last of the transaction that changed it. */
export type Recording<Changed> = (trx: Transaction<Tables>, changed: Changed) => Promise<void>;

export function createAuditLog({ newId }: { newId: IdSource }): AuditLog {
  return {
    async record(trx, by, done) {
      const { before, after } = changedFields(done.before, done.after);
      if (done.before !== undefined && done.after !== undefined && before === null && after === null) return;
      const written = await appendEntry(trx, {
        tenant_id: done.ofPlatform ? PLATFORM_CHAIN : by.tenantId,
        id: newId(),
        environment_id: done.environmentId === undefined ? by.environmentId : done.environmentId,
        action: done.action,
        outcome: 'success',
        actor_kind: by.actor.kind,
        actor_id: storable(by.actor.id),
        role: by.role,
        address: by.address,
        request_id: by.requestId,
        resource_type: done.resourceType,
        resource_id: storable(done.resourceId),
        before,
        after,
        details: done.details === undefined ? null : jsonOf(done.details),
      });
      if (!written) throw notFound('tenant');
    },
  };
}
