import type { Authenticator } from './access/authenticator.ts';
import type { Capacity } from './alerts/capacity.ts';
import type { EventTypeDirectory } from './catalog/directory.ts';
import type { Change } from './db/notify.ts';
import type { DeliveryEngine } from './delivery/engine.ts';
import type { LiveHub } from './live/hub.ts';
import type { TenantDirectory } from './tenants/directory.ts';
import type { WebhookDirectory } from './webhooks/directory.ts';

/** What a node does when it hears of a change. */
export interface ChangeNotices {
  /** A row changed, on this node or another: forgets what is cached of it, and sets going what it is a reason for. */
  applyChange: (change: Change) => void;
  /** Changes may have been missed: forgets everything that is cached. */
  forgetEverything: () => void;
}

/** The parts of the program that remember something of rows, or wait for them to change. */
interface Parts {
  authenticator: Authenticator;
  tenants: TenantDirectory;
  eventTypes: EventTypeDirectory;
  webhooks: WebhookDirectory;
  engine: DeliveryEngine;
  live: LiveHub;
  capacity: Capacity;
}

/** Whom each topic concerns. */
export function createChangeNotices(parts: Parts): ChangeNotices {
  const { authenticator, tenants, eventTypes, webhooks, engine, live, capacity } = parts;
  return {
    applyChange: ({ topic, tenantId, environmentId, webhookId, deliveryIds }: Change) => {
      if (topic === 'circuits') engine.circuitsChanged(webhookId);
      if (topic === 'tenant_resumed') engine.tenantResumed(tenantId);
      if (topic === 'webhook_resumed' && webhookId !== undefined) engine.resumed(webhookId);
      if (topic === 'deliveries_cancelled') engine.cancelled(tenantId, deliveryIds ?? []);
      if (topic === 'lane_due' && environmentId !== undefined && webhookId !== undefined) {
        engine.expectTold({ tenantId, environmentId, webhookId });
      }
      if (topic === 'tenants' || topic === 'api_keys' || topic === 'portal_tokens') authenticator.invalidate(tenantId);
      if (topic === 'jwt_issuers') authenticator.invalidateIssuers();
      if (topic === 'tenants') {
        tenants.invalidate(tenantId);
        // The webhooks of a tenant or an environment that was deleted went with it.
        engine.circuitsChanged();
      }
      if (topic === 'tenants' || topic === 'event_types') eventTypes.invalidate(tenantId, environmentId);
      // A preset that was installed changes what the environment's webhooks send.
      if (topic === 'tenants' || topic === 'event_types' || topic === 'webhooks') {
        webhooks.invalidate(tenantId, environmentId);
      }
      if (topic === 'webhooks' || topic === 'deliveries_due') engine.lookForDue();
      // After the caches have forgotten whom they knew.
      if (topic === 'tenants' || topic === 'api_keys' || topic === 'portal_tokens') void live.recheck(tenantId);
      if (topic === 'jwt_issuers') void live.recheck();
      if (topic === 'capacity' || topic === 'tenants') void capacity.refresh();
    },
    forgetEverything: () => {
      for (const cache of [authenticator, tenants, eventTypes, webhooks]) cache.invalidateAll();
      void live.recheck();
      void capacity.refresh();
      engine.noticesMissed();
    },
  };
}
