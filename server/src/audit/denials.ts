import type { FastifyRequest } from 'fastify';
import { type Database, errorCode } from '../db/pool.ts';
import { type Caller, CallerRefused } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import type { AppError } from '../kernel/errors.ts';
import type { IdSource } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import { appendEntry, storable } from './append.ts';
import { jsonOf } from './changed-fields.ts';
import { type EntryColumns, PLATFORM_CHAIN } from './hash.ts';

/** Milliseconds for which denied attempts are gathered before they are written. */
const GATHER_MS = 60_000;

/** Attempts that differ, of a tenant or of nobody, in that time. Beyond them they are counted together. */
const DISTINCT_MAX = 50;

/** Characters of the reason that the answer gave. */
const REASON_CHARACTERS_MAX = 200;

/**
 * Denied attempts (401, 403 and 429 `too_many_failed_attempts`) on their way to the log. Whoever sends bad keys decides how many there are, so they are
 * gathered in memory: one entry a minute for all that are alike (by tenant, actor, address, route and status), with their
 * count, and one for all that are beyond the first 50 different ones of a tenant or of nobody. So a process writes 51
 * entries a minute at most for unknown callers, and as many for a tenant whose own keys do it. One that is killed loses a
 * minute of them.
 */
export interface Denials {
  /** Counts a refused request. Costs a look into a map, and no query. */
  add(request: FastifyRequest, error: AppError): void;
  /** Writes what was gathered. @throws when the database cannot; nothing is lost then. */
  flush(): Promise<void>;
  /** Writes the rest; what cannot be written is logged. */
  stop(): Promise<void>;
}

export interface DenialsOptions {
  db: Database;
  clock: Clock;
  newId: IdSource;
  logger: Logger;
  /** The part of a refused credential that may be shown to those who manage keys; undefined: nothing. */
  hintOf: (headers: FastifyRequest['headers']) => string | undefined;
}

export function createDenials(options: DenialsOptions): Denials {
  const { clock, logger, hintOf } = options;
  let gathered = new Map<string, OfOneChain>();
  let cancelTimer: (() => void) | undefined;
  let writing: Promise<void> = Promise.resolve();
  let stopped = false;

  function startTimer(): void {
    if (stopped || cancelTimer !== undefined) return;
    cancelTimer = clock.after(GATHER_MS, () => {
      cancelTimer = undefined;
      void flushOrLog();
    });
  }

  async function write(): Promise<void> {
    cancelTimer?.();
    cancelTimer = undefined;
    const chains = gathered;
    gathered = new Map();
    let failure: unknown;
    for (const [tenantId, chain] of chains) {
      try {
        await writeChain(options, tenantId, chain);
      } catch (error) {
        failure = error;
        putBack(gathered, tenantId, chain);
        startTimer();
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** One after the other: what could not be written is gathered again before the next one looks. */
  function flush(): Promise<void> {
    const written = writing.then(write);
    writing = written.catch(() => {});
    return written;
  }

  async function flushOrLog(): Promise<void> {
    try {
      await flush();
    } catch (error) {
      logger.error({ code: errorCode(error) }, 'denied attempts could not be written to the audit log');
    }
  }

  return {
    add(request, error) {
      const caller = error instanceof CallerRefused ? error.caller : (request.caller ?? undefined);
      const tenantId = caller?.tenantId ?? PLATFORM_CHAIN;
      let chain = gathered.get(tenantId);
      if (chain === undefined) {
        chain = { attempts: new Map(), others: 0 };
        gathered.set(tenantId, chain);
      }
      const route = `${request.method} ${request.routeOptions.url}`;
      const { actor } = caller ?? {};
      const likeness = `${error.status} ${route} ${request.ip} ${actor?.kind} ${actor?.id}`;
      const known = chain.attempts.get(likeness);
      if (known !== undefined) {
        known.count += 1;
        known.lastAtMs = clock.now();
      } else if (chain.attempts.size < DISTINCT_MAX) {
        chain.attempts.set(
          likeness,
          attemptOf(request, error, { caller, route, hint: hintOf(request.headers) }, clock),
        );
      } else {
        chain.others += 1;
      }
      startTimer();
    },
    flush,
    async stop() {
      stopped = true;
      await flushOrLog();
    },
  };
}

/** What was gathered for one chain. */
interface OfOneChain {
  attempts: Map<string, Attempt>;
  /** Beyond those. */
  others: number;
}

interface Attempt {
  caller: Caller | undefined;
  address: string;
  /** Of the first one, like all but the count and the last time. */
  requestId: string;
  route: string;
  status: number;
  reason: string;
  hint: string | undefined;
  count: number;
  firstAtMs: number;
  lastAtMs: number;
}

function attemptOf(
  request: FastifyRequest,
  error: AppError,
  { caller, route, hint }: Pick<Attempt, 'caller' | 'route' | 'hint'>,
  clock: Clock,
): Attempt {
  const nowMs = clock.now();
  return {
    caller,
    address: request.ip,
    requestId: request.id,
    route,
    status: error.status,
    reason: error.message.slice(0, REASON_CHARACTERS_MAX),
    hint,
    count: 1,
    firstAtMs: nowMs,
    lastAtMs: nowMs,
  };
}

/** Those of a tenant that was deleted meanwhile go to the platform: they were attempts all the same. */
async function writeChain({ db, newId }: DenialsOptions, tenantId: string, chain: OfOneChain): Promise<void> {
  const details = [...chain.attempts.values()].map((attempt) => entryOf(attempt));
  if (chain.others > 0) details.push({ ...NOBODY, details: jsonOf({ count: chain.others, others: true }) });
  await db.transaction().execute(async (trx) => {
    for (const entry of details) {
      const own = { ...entry, tenant_id: tenantId, id: newId() };
      if (!(await appendEntry(trx, own))) await appendEntry(trx, { ...own, tenant_id: PLATFORM_CHAIN });
    }
  });
}

/** As long as there is room: what is there by now goes first. */
function putBack(gathered: Map<string, OfOneChain>, tenantId: string, failed: OfOneChain): void {
  const chain = gathered.get(tenantId) ?? { attempts: new Map<string, Attempt>(), others: 0 };
  gathered.set(tenantId, chain);
  chain.others += failed.others;
  for (const [likeness, attempt] of failed.attempts) {
    const known = chain.attempts.get(likeness);
    if (known !== undefined) {
      known.count += attempt.count;
      known.firstAtMs = attempt.firstAtMs;
    } else if (chain.attempts.size < DISTINCT_MAX) chain.attempts.set(likeness, attempt);
    else chain.others += attempt.count;
  }
}

type EntryOfChain = Omit<EntryColumns, 'tenant_id' | 'id'>;

const NOBODY: EntryOfChain = {
  environment_id: null,
  action: 'access.denied',
  outcome: 'denied',
  actor_kind: null,
  actor_id: null,
  role: null,
  address: null,
  request_id: null,
  resource_type: null,
  resource_id: null,
  before: null,
  after: null,
  details: null,
};

function entryOf(attempt: Attempt): EntryOfChain {
  const { caller, route, status, reason, hint, count } = attempt;
  return {
    ...NOBODY,
    ...(caller !== undefined && {
      environment_id: caller.environmentId,
      actor_kind: caller.actor.kind,
      actor_id: storable(caller.actor.id),
      role: caller.role,
    }),
    address: attempt.address,
    request_id: attempt.requestId,
    details: jsonOf({
      route,
      status,
      reason,
      ...(hint !== undefined && { key_hint: hint }),
      count,
      first_at: new Date(attempt.firstAtMs).toISOString(),
      last_at: new Date(attempt.lastAtMs).toISOString(),
    }),
  };
}
