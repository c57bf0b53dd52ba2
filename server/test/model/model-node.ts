import type pg from 'pg';
import { createAuditLog } from '../../src/audit/log.ts';
import type { EventTypeDirectory } from '../../src/catalog/directory.ts';
import type { Change } from '../../src/db/notify.ts';
import type { Database } from '../../src/db/pool.ts';
import { DeliveryEngine } from '../../src/delivery/engine.ts';
import { EventWriter } from '../../src/events/event-writer.ts';
import { Publisher } from '../../src/events/publisher.ts';
import type { Clock } from '../../src/kernel/clock.ts';
import type { IdSource } from '../../src/kernel/ids.ts';
import { createLogger } from '../../src/kernel/logger.ts';
import type { SecretBox } from '../../src/kernel/secret-box.ts';
import { createWebhookDirectory, type WebhookDirectory } from '../../src/webhooks/directory.ts';
import { createEgressGuard } from '../../src/webhooks/egress/guard.ts';
import { disableWebhook } from '../../src/webhooks/status-commands.ts';
import type { WebhookStore } from '../../src/webhooks/store.ts';
import type { WebhookTarget } from '../../src/webhooks/target.ts';
import { ScriptedSandbox } from './scripted-sandbox.ts';
import type { Transport } from './transport.ts';
import { type Activity, Wire } from './wire.ts';

/** What nodes have in common. */
export interface NodeSurroundings {
  clock: Clock;
  newId: IdSource;
  db: Database;
  enginePool: pg.Pool;
  activity: Activity;
  transport: Transport;
  eventTypes: EventTypeDirectory;
  box: SecretBox;
  /** No request can be built with this body: a fault of ours. */
  isPoison: (body: Buffer) => boolean;
  templatesFail: () => boolean;
  inFlightMax: number;
  queuedMax: number;
  onNotice: () => void;
  /** A statement of some node fails. */
  onFault: () => void;
}

const logger = createLogger('silent');

/** A process: a real engine with the real way of publishing, on a wire and a clock that can be taken from it. */
export class ModelNode {
  readonly wire: Wire;
  readonly sandbox: ScriptedSandbox;
  readonly clock: Clock;
  readonly engine: DeliveryEngine;
  readonly publisher: Publisher;
  readonly store: WebhookStore;
  /** It has crashed or stopped. */
  gone = false;
  /** A statement failed with its outcome unknown, so it may have leases that it does not know of. */
  inDoubt = false;
  readonly #directory: WebhookDirectory;

  constructor(surroundings: NodeSurroundings) {
    const { db, newId, box, eventTypes, transport, isPoison } = surroundings;
    const shared = surroundings.clock;
    const clock: Clock = {
      now: () => shared.now(),
      monotonicMs: () => shared.monotonicMs(),
      after: (delayMs, task) =>
        shared.after(delayMs, () => {
          if (!this.gone) task();
        }),
    };
    this.clock = clock;
    this.sandbox = new ScriptedSandbox({ clock, works: () => !this.gone, fails: surroundings.templatesFail });
    const { enginePool, activity, onNotice } = surroundings;
    const onFault = () => {
      this.inDoubt = true;
      surroundings.onFault();
    };
    this.wire = new Wire({ real: enginePool, activity, clock, onNotice, onFault });
    const { pool } = this.wire;
    this.#directory = createWebhookDirectory({ db, clock, box, logger, defaultUserAgent: 'Posthorn/0.0.0' });
    const webhooks = withPoison(this.#directory, this.wire, isPoison);
    this.store = { db, clock, newId, audit: createAuditLog({ newId }), box, directory: webhooks };
    this.engine = new DeliveryEngine({
      pool,
      clock,
      newId,
      logger,
      random: () => 0.5,
      directory: webhooks,
      guard: createEgressGuard({ allow: [], requireHttps: false, clock }),
      sandbox: this.sandbox,
      inFlightMax: surroundings.inFlightMax,
      queuedMax: surroundings.queuedMax,
      soleNode: false,
      onGone: async (task) => {
        await disableWebhook(this.store, task, task.webhookId, 'gone');
      },
      sender: transport.senderOf(this),
    });
    const writer = new EventWriter({ pool, engine: this.engine, clock, logger });
    const { engine } = this;
    this.publisher = new Publisher({
      eventTypes,
      allowUnknownEventTypes: () => true,
      webhooks,
      engine,
      writer,
      clock,
      newId,
    });
  }

  /** As `composition.ts` passes notices on. */
  applyChange({ topic, tenantId, environmentId, webhookId, deliveryIds }: Change): void {
    if (topic === 'circuits') this.engine.circuitsChanged(webhookId);
    if (topic === 'webhook_resumed' && webhookId !== undefined) this.engine.resumed(webhookId);
    if (topic === 'deliveries_cancelled') this.engine.cancelled(tenantId, deliveryIds ?? []);
    if (topic === 'lane_due' && environmentId !== undefined && webhookId !== undefined) {
      this.engine.expectTold({ tenantId, environmentId, webhookId });
    }
    if (topic === 'webhooks') this.#directory.invalidate(tenantId, environmentId);
    if (topic === 'webhooks' || topic === 'deliveries_due') this.engine.lookForDue();
  }

  /** Notices may have been missed. */
  forgetEverything(): void {
    this.#directory.invalidateAll();
    this.engine.noticesMissed();
  }

  crash(): void {
    this.gone = true;
    this.wire.cut();
  }
}

/** Webhooks whose signers fail for some events, and which a node that is cut off cannot read. */
function withPoison(directory: WebhookDirectory, wire: Wire, isPoison: (body: Buffer) => boolean): WebhookDirectory {
  const known = new WeakMap<WebhookTarget, WebhookTarget>();
  const wrap = (target: WebhookTarget): WebhookTarget => {
    let wrapped = known.get(target);
    if (wrapped === undefined) {
      const sign: WebhookTarget['signer']['sign'] = (messageId, seconds, body) => {
        if (isPoison(body)) throw new Error('It cannot be signed.');
        return target.signer.sign(messageId, seconds, body);
      };
      wrapped = { ...target, signer: { sign } };
      known.set(target, wrapped);
    }
    return wrapped;
  };
  return {
    match(scope, type) {
      const found = directory.match(scope, type);
      return found instanceof Promise ? found.then((targets) => targets.map(wrap)) : found.map(wrap);
    },
    find(scope, id) {
      const found = directory.find(scope, id);
      const wrapIf = (target: WebhookTarget | undefined) => (target === undefined ? undefined : wrap(target));
      return found instanceof Promise ? wire.bring(found).then(wrapIf) : wrapIf(found);
    },
    invalidate: (tenantId, environmentId) => directory.invalidate(tenantId, environmentId),
    invalidateAll: () => directory.invalidateAll(),
  };
}
