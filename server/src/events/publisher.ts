import type { EventTypeDirectory, EventTypeEntry } from '../catalog/directory.ts';
import type { DeliveryEngine } from '../delivery/engine.ts';
import { firstAttemptDueAtMs } from '../delivery/first-attempts.ts';
import { EVENT_SOURCE } from '../delivery/rows.ts';
import type { DeliveryTask, EventInHand } from '../delivery/task.ts';
import type { Scope } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { invalidFields } from '../kernel/errors.ts';
import { formatId, type IdSource } from '../kernel/ids.ts';
import { type Chosen, chooseTargets } from '../routing/filters/choose-targets.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import type { EventWriter } from './event-writer.ts';
import { orderingKeyOf } from './ordering-key.ts';
import type { EventKey, PlannedDelivery, PreparedEvent, StoredEvent } from './prepared-event.ts';
import { contentHash, type PublishRequest } from './publish-request.ts';

/** What the publisher is told. */
export interface PublishResult {
  event_id: string;
  id: string;
  event_type: string;
  status: 'accepted' | 'scheduled' | 'no_subscribers';
  deliveries: number;
  /** Webhooks whose filters kept it from them; absent: none, or it was published before. */
  filtered?: number;
  duplicate: boolean;
}

export interface PublisherOptions {
  eventTypes: EventTypeDirectory;
  allowUnknownEventTypes: (tenantId: string) => boolean | Promise<boolean>;
  webhooks: WebhookDirectory;
  engine: DeliveryEngine;
  writer: EventWriter;
  clock: Clock;
  newId: IdSource;
}

/** A request's `Idempotency-Key` with the hash of the request's body. */
export type IdempotencyKey = Pick<EventKey, 'key' | 'contentHash'>;

/**
 * Accepts events: finds their type and subscribers, plans their deliveries, and answers when all of it is committed.
 * The events of one call are stored together or not at all.
 */
export class Publisher {
  readonly #options: PublisherOptions;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /** @throws AppError 422 for an unknown type or data against an enforced schema; 409 for a reused key; 429; 503. */
  async publish(scope: Scope, requests: PublishRequest[], idempotencyKey?: IdempotencyKey): Promise<PublishResult[]> {
    this.#options.engine.refuseWhenFull(scope.tenantId);
    // Nothing is planned before everything is checked: planning takes room in the engine, a refusal would leave it taken.
    for (const [at, request] of requests.entries()) {
      const checked = this.#check(scope, request, requests.length > 1 ? `events.${at}.` : '');
      if (checked instanceof Promise) await checked;
    }
    const chosen: Chosen<WebhookTarget>[] = [];
    for (const request of requests) {
      const found = this.#options.webhooks.match(scope, request.type);
      const choice = chooseTargets(found instanceof Promise ? await found : found, request);
      chosen.push(choice instanceof Promise ? await choice : choice);
    }
    const prepared = requests.map((request, at) => this.#prepare(scope, request, chosen[at] ?? NOBODY, idempotencyKey));
    const stored = await this.#options.writer.store(prepared);
    return prepared.map((event, at) => describe(event, stored[at] ?? STORED));
  }

  /**
   * Publishes one event, and makes no promise for it when its type and subscribers are in memory, as they mostly are.
   * `done` is called once, with an error as `publish` throws it or with the result.
   */
  publishOne(scope: Scope, request: PublishRequest, done: (error: unknown, result?: PublishResult) => void): void {
    try {
      this.#options.engine.refuseWhenFull(scope.tenantId);
      const checked = this.#check(scope, request, '');
      const subscribers = checked instanceof Promise ? checked : this.#options.webhooks.match(scope, request.type);
      if (subscribers instanceof Promise) {
        subscribers.then(() => this.publish(scope, [request])).then(([result]) => done(undefined, result), done);
        return;
      }
      const chosen = chooseTargets(subscribers, request);
      if (chosen instanceof Promise) chosen.then((choice) => this.#submit(scope, request, choice, done)).catch(done);
      else this.#submit(scope, request, chosen, done);
    } catch (error) {
      done(error);
    }
  }

  #submit(
    scope: Scope,
    request: PublishRequest,
    chosen: Chosen<WebhookTarget>,
    done: (error: unknown, result?: PublishResult) => void,
  ): void {
    const prepared = this.#prepare(scope, request, chosen, undefined);
    this.#options.writer.submit({
      events: [prepared],
      results: [],
      resolve: ([stored = STORED]) => done(undefined, describe(prepared, stored)),
      reject: done,
    });
  }

  /**
   * Publishes an event of Posthorn's own: its type need not be known, and of its subscribers those get it that `isFor`
   * takes, whatever their filters are: these are made for what the product publishes. `to` gets it whether it is
   * subscribed or not. Publishing the same again, by its `eventId`, does nothing.
   *
   * @throws AppError 409 when the `eventId` was used for another event; 503.
   */
  async publishOwn(
    scope: Scope,
    request: PublishRequest,
    isFor: (target: WebhookTarget) => boolean,
    to?: string,
  ): Promise<void> {
    const { webhooks, writer } = this.#options;
    const wanted = (await webhooks.match(scope, request.type)).filter((target) => target.id !== to && isFor(target));
    const named = to === undefined ? undefined : await webhooks.find(scope, to);
    if (named !== undefined) wanted.push(named);
    await writer.store([this.#prepare(scope, request, { wanted, filtered: [] }, undefined)]);
  }

  /** Without a promise for what is in memory, which is nearly always. */
  #check(scope: Scope, request: PublishRequest, at: string): void | Promise<void> {
    const found = this.#options.eventTypes.lookup(scope, request.type);
    if (found instanceof Promise) return found.then((entry) => this.#checkAgainst(entry, scope, request, at));
    return this.#checkAgainst(found, scope, request, at);
  }

  #checkAgainst(
    entry: EventTypeEntry | 'unknown',
    scope: Scope,
    request: PublishRequest,
    at: string,
  ): void | Promise<void> {
    if (entry === 'unknown') {
      const allowed = this.#options.allowUnknownEventTypes(scope.tenantId);
      return allowed === true ? undefined : this.#refuseUnknown(allowed, scope, request.type, `${at}event_type`);
    }
    const problems = entry.validate?.(request.dataValue) ?? [];
    if (problems.length > 0) {
      throw invalidFields(
        problems.map(({ path, message }) => ({ path: `${at}data${path === '' ? '' : `.${path}`}`, message })),
      );
    }
  }

  async #refuseUnknown(allowed: boolean | Promise<boolean>, scope: Scope, type: string, path: string): Promise<void> {
    if (await allowed) return;
    throw await this.#options.eventTypes.unknownEventType(scope, type, path);
  }

  #prepare(
    scope: Scope,
    request: PublishRequest,
    { wanted, filtered }: Chosen<WebhookTarget>,
    idempotencyKey: IdempotencyKey | undefined,
  ): PreparedEvent {
    const uuid = this.#options.newId();
    const id = formatId('event', uuid);
    const event: EventInHand = {
      uuid,
      id,
      publicId: request.eventId ?? id,
      type: request.type,
      timestamp: isoTime(request.occurredAtMs),
      data: request.data,
      metadata: request.metadata,
      source: EVENT_SOURCE,
    };
    const keys: EventKey[] = [];
    if (request.eventId !== null) {
      keys.push({ kind: 'event_id', key: request.eventId, contentHash: contentHash(request) });
    }
    if (idempotencyKey !== undefined) keys.push({ kind: 'idempotency_key', ...idempotencyKey });
    return {
      tenantId: scope.tenantId,
      environmentId: scope.environmentId,
      event,
      externalId: request.eventId,
      occurredAtMs: request.occurredAtMs,
      orderingKey: request.orderingKey,
      priority: request.priority,
      deliverAtMs: request.deliverAtMs,
      isTest: false,
      keys,
      deliveries: wanted.map((target) => this.#plan(scope, event, target, request)),
      filtered: filtered.length === 0 ? NO_WEBHOOKS : filtered.map(({ id }) => id),
    };
  }

  #plan(scope: Scope, event: EventInHand, target: WebhookTarget, request: PublishRequest): PlannedDelivery {
    const { deliverAtMs } = request;
    const ordered = target.ordering !== null;
    const task: DeliveryTask = {
      tenantId: scope.tenantId,
      environmentId: scope.environmentId,
      id: this.#options.newId(),
      webhookId: target.id,
      event,
      attemptCount: 0,
      trigger: 'scheduled',
      priority: request.priority === 0 ? target.priority : request.priority,
      late: false,
      claimed: false,
      orderingKey: target.ordering === null ? request.orderingKey : orderingKeyOf(request, target.ordering.keyPath),
      orderNumber: null,
    };
    if (target.status !== 'active') return { task, place: 'held', dueAtMs: null, ordered };
    if (deliverAtMs !== null) return { task, place: 'waiting', dueAtMs: deliverAtMs, ordered };
    if (this.#options.engine.reserve(task, target)) return { task, place: 'leased', dueAtMs: null, ordered };
    return { task, place: 'waiting', dueAtMs: firstAttemptDueAtMs(this.#options.clock.now()), ordered };
  }
}

let isoMs = Number.NaN;
let isoText = '';

/** RFC 3339; what is published without a time of its own is mostly of the same millisecond as the event before. */
function isoTime(timeMs: number): string {
  if (timeMs !== isoMs) {
    isoText = new Date(timeMs).toISOString();
    isoMs = timeMs;
  }
  return isoText;
}

const STORED: StoredEvent = { kind: 'stored' };
const NO_WEBHOOKS: readonly string[] = [];
const NOBODY: Chosen<WebhookTarget> = { wanted: [], filtered: [] };

function describe(prepared: PreparedEvent, stored: StoredEvent): PublishResult {
  if (stored.kind === 'duplicate') {
    const { id, externalId, deliveryCount } = stored.original;
    return {
      event_id: externalId ?? formatId('event', id),
      id: formatId('event', id),
      event_type: prepared.event.type,
      status: deliveryCount === 0 ? 'no_subscribers' : 'accepted',
      deliveries: deliveryCount,
      duplicate: true,
    };
  }
  const deliveries = prepared.deliveries.length;
  const scheduled = prepared.deliverAtMs === null ? 'accepted' : 'scheduled';
  const result: PublishResult = {
    event_id: prepared.event.publicId,
    id: prepared.event.id,
    event_type: prepared.event.type,
    status: deliveries === 0 ? 'no_subscribers' : scheduled,
    deliveries,
    duplicate: false,
  };
  if (prepared.filtered.length > 0) result.filtered = prepared.filtered.length;
  return result;
}
