import type pg from 'pg';
import type { Admit, Caller, Grant, Scope } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError, invalidField } from '../kernel/errors.ts';
import type { TenantDirectory, TenantEntry } from '../tenants/directory.ts';
import type { TenantLimits } from '../tenants/types.ts';
import type { Bucket } from './bucket.ts';
import { type LimitKind, type Step, takeAll } from './grants.ts';
import { dailyLedger, rateLedger } from './ledgers.ts';
import { type SliceBucket, Slices } from './slices.ts';
import { TokenBucket } from './token-bucket.ts';

/** Holds callers to the limits that the operator set. */
export interface Limits {
  /**
   * Lets a caller's request in. Without limits, this and `takeEvents` cost a look at the tenant in
   * memory each: 0.11 us together. With a limit of each kind on a node that is alone it is 1 us.
   *
   * The operator is never refused for the number of requests; for a suspended tenant it is when something would be sent.
   */
  admit: Admit;
  /**
   * Takes the events of a publish, all or none, whoever publishes. What turns out to be no new event can be given back
   * to the day's quota; of a second it stays taken. Undefined: nothing limits it.
   *
   * @param sizes bytes of the events' data.
   * @throws AppError 413 for one that is too large, 422 for more events than a second may ever have, 429.
   */
  takeEvents(scope: Scope, sizes: readonly number[]): Grant | undefined | Promise<Grant | undefined>;
  /** Webhooks that a tenant may have; null: as many as it likes. */
  webhooksMax(tenantId: string): Promise<number | null>;
  /** Gives back what was taken ahead of the day's quotas. */
  stop(): Promise<void>;
}

export interface LimitsOptions {
  tenants: Pick<TenantDirectory, 'get'>;
  pool: pg.Pool;
  clock: Clock;
  /** No other node can be at work on the database, so that limits a second need no rows. */
  alone: boolean;
}

/** What is kept in memory without being used goes when there are more limits than this. */
const BUCKETS_MAX = 20_000;

/** A bucket that was not used for so long is as good as a new one. */
const FORGET_MS = 2_000;

/** How often what lies idle of a day's quota is given back, and after how long without use. */
const RETURN_MS = 5_000;

const TENANT_REQUESTS: LimitKind = {
  name: 'requests_per_second',
  of: 'tenant',
  windowSeconds: 1,
  unit: 'requests a second',
};
const KEY_REQUESTS: LimitKind = { ...TENANT_REQUESTS, of: 'api_key' };
const EVENTS: LimitKind = { name: 'events_per_second', of: 'tenant', windowSeconds: 1, unit: 'events a second' };
const DAILY_EVENTS: LimitKind = {
  name: 'events_per_day',
  of: 'tenant',
  windowSeconds: 86_400,
  unit: 'events a day (UTC)',
};

export function createLimits(options: LimitsOptions): Limits {
  const { tenants, clock } = options;
  const rates = new Slices(clock, rateLedger(options.pool));
  const days = new Slices(clock, dailyLedger(options.pool));
  const perSecond = new Buckets<Bucket>(clock, (tenantId, subject, limit) =>
    options.alone ? new TokenBucket(clock, limit) : rates.bucket(tenantId, subject, limit),
  );
  const perDay = new Buckets<SliceBucket>(clock, (tenantId, subject, limit) => days.bucket(tenantId, subject, limit));
  let cancelReturn: (() => void) | undefined;
  let stopped = false;

  const returnIdleSoon = () => {
    if (stopped) return;
    cancelReturn ??= clock.after(RETURN_MS, () => {
      cancelReturn = undefined;
      for (const bucket of perDay.all()) bucket.returnIdle(RETURN_MS);
      if (perDay.size > 0) returnIdleSoon();
      perDay.forgetIdle((bucket) => bucket.isIdle(RETURN_MS));
    });
  };

  function requestSteps(caller: Caller, limits: TenantLimits | undefined): Step[] {
    const { tenantId, actor, requestsPerSecond } = caller;
    const steps: Step[] = [];
    // The key first: what is refused for it must take nothing from the tenant's other keys.
    if (requestsPerSecond !== undefined) {
      const bucket = perSecond.get(tenantId, `key:${actor.id}`, requestsPerSecond);
      steps.push({ kind: KEY_REQUESTS, limit: requestsPerSecond, bucket, returnable: true });
    }
    const ofTenant = limits?.requests_per_second ?? null;
    if (ofTenant !== null) {
      const bucket = perSecond.get(tenantId, 'requests', ofTenant);
      steps.push({ kind: TENANT_REQUESTS, limit: ofTenant, bucket, returnable: true });
    }
    return steps;
  }

  function admitTo(tenant: TenantEntry | undefined, caller: Caller, sends: boolean) {
    const isOperator = caller.role === 'operator';
    if (tenant?.suspended === true && (sends || !isOperator)) throw tenantSuspended();
    if (isOperator || (tenant?.limits === undefined && caller.requestsPerSecond === undefined)) return undefined;
    const steps = requestSteps(caller, tenant?.limits);
    return steps.length === 0 ? undefined : takeAll(steps, 1);
  }

  function takeFrom(limits: TenantLimits | undefined, tenantId: string, sizes: readonly number[]) {
    if (limits === undefined) return undefined;
    refuseLargeData(limits, sizes);
    const steps: Step[] = [];
    for (const [kind, limit, buckets] of [
      [EVENTS, limits.events_per_second, perSecond],
      [DAILY_EVENTS, limits.events_per_day, perDay],
    ] as const) {
      if (limit === null) continue;
      if (sizes.length > limit) {
        throw invalidField('events', `must have at most ${limit} items: the tenant may publish ${limit} ${kind.unit}`);
      }
      const bucket = buckets.get(tenantId, 'events', limit);
      steps.push({ kind, limit, bucket, returnable: kind === DAILY_EVENTS });
    }
    if (limits.events_per_day !== null) returnIdleSoon();
    return steps.length === 0 ? undefined : takeAll(steps, sizes.length);
  }

  return {
    admit(caller, sends) {
      const tenant = tenants.get(caller.tenantId);
      if (tenant instanceof Promise) return tenant.then((found) => admitTo(found, caller, sends));
      return admitTo(tenant, caller, sends);
    },
    takeEvents({ tenantId }, sizes) {
      const tenant = tenants.get(tenantId);
      if (tenant instanceof Promise) return tenant.then((found) => takeFrom(found?.limits, tenantId, sizes));
      return takeFrom(tenant?.limits, tenantId, sizes);
    },
    async webhooksMax(tenantId) {
      return (await tenants.get(tenantId))?.limits?.webhooks ?? null;
    },
    async stop() {
      stopped = true;
      cancelReturn?.();
      for (const bucket of perDay.all()) bucket.returnIdle(0);
      await Promise.all([rates.whenIdle(), days.whenIdle()]);
    },
  };
}

/** The buckets in use, made when they are asked for. */
class Buckets<Kind extends Bucket> {
  readonly #clock: Clock;
  readonly #create: (tenantId: string, subject: string, limit: number) => Kind;
  readonly #buckets = new Map<string, { bucket: Kind; limit: number; usedMs: number }>();

  constructor(clock: Clock, create: (tenantId: string, subject: string, limit: number) => Kind) {
    this.#clock = clock;
    this.#create = create;
  }

  get size(): number {
    return this.#buckets.size;
  }

  get(tenantId: string, subject: string, limit: number): Kind {
    const key = `${tenantId}/${subject}`;
    let entry = this.#buckets.get(key);
    if (entry === undefined) {
      if (this.#buckets.size >= BUCKETS_MAX) this.#makeRoom();
      entry = { bucket: this.#create(tenantId, subject, limit), limit, usedMs: 0 };
      this.#buckets.set(key, entry);
    }
    if (entry.limit !== limit) {
      entry.limit = limit;
      entry.bucket.setLimit(limit);
    }
    entry.usedMs = this.#clock.monotonicMs();
    return entry.bucket;
  }

  *all(): Iterable<Kind> {
    for (const { bucket } of this.#buckets.values()) yield bucket;
  }

  forgetIdle(isIdle: (bucket: Kind) => boolean): void {
    for (const [key, { bucket }] of this.#buckets) if (isIdle(bucket)) this.#buckets.delete(key);
  }

  #makeRoom(): void {
    const beforeMs = this.#clock.monotonicMs() - FORGET_MS;
    for (const [key, { usedMs }] of this.#buckets) if (usedMs < beforeMs) this.#buckets.delete(key);
  }
}

function tenantSuspended(): AppError {
  return new AppError({
    code: 'tenant_suspended',
    message: 'This tenant is suspended by the operator; its data is kept, and nothing is taken or delivered for it.',
  });
}

function refuseLargeData({ payload_bytes: max }: TenantLimits, sizes: readonly number[]): void {
  if (max === null) return;
  const at = sizes.findIndex((size) => size > max);
  if (at === -1) return;
  const path = sizes.length > 1 ? `events.${at}.data` : 'data';
  throw new AppError({
    code: 'payload_too_large',
    message: `${path} has ${sizes[at]} bytes; the tenant's events may have at most ${max}.`,
  });
}
