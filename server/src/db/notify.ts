import pg from 'pg';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import { errorCode } from './pool.ts';

/** What changed, told to every node by the transaction that changed it. */
export interface Change {
  topic:
    | 'webhooks'
    | 'event_types'
    | 'api_keys'
    | 'portal_tokens'
    | 'jwt_issuers'
    | 'tenants'
    | 'deliveries_due'
    | 'deliveries_cancelled'
    | 'lane_due'
    | 'circuits'
    | 'webhook_resumed'
    | 'tenant_resumed'
    | 'encryption_keys'
    | 'capacity';
  /** With `jwt_issuers`, which belong to no tenant, the one that the operator acted for. Empty with `encryption_keys`. */
  tenantId: string;
  environmentId?: string;
  /** With `lane_due`, `circuits` and `webhook_resumed`. */
  webhookId?: string;
  /** UUIDs, with `deliveries_cancelled`: a node that holds one of them must not send it any more. */
  deliveryIds?: string[];
}

/** SQL that tells every node of a change when the surrounding transaction commits; its one parameter is `changeText`. */
export const NOTIFY_SQL = `SELECT pg_notify('posthorn_changes', $1)`;

export function changeText(change: Change): string {
  return JSON.stringify(change);
}

export interface ChangeListener {
  stop(): Promise<void>;
}

const CHANNEL = 'posthorn_changes';
const RECONNECT_MS = 500;

/**
 * Listens on a connection of its own for as long as it runs. `onReset` is called whenever changes may have been missed
 * (at the start and after each lost connection): caches must then be emptied.
 */
export function listenForChanges(options: {
  connection: pg.ClientConfig;
  clock: Clock;
  logger: Logger;
  onChange: (change: Change) => void;
  onReset: () => void;
}): ChangeListener {
  const { clock, logger } = options;
  let stopped = false;
  let client: pg.Client | undefined;
  let cancelRetry: (() => void) | undefined;

  const retryLater = () => {
    client = undefined;
    if (!stopped) cancelRetry = clock.after(RECONNECT_MS, connect);
  };

  const connect = () => {
    // A peer that is gone without a word is noticed by the keepalive: only a lost connection empties the caches.
    const next = new pg.Client({ application_name: 'posthorn-listener', ...options.connection, keepAlive: true });
    client = next;
    let lost = false;
    const onLost = (error?: Error) => {
      if (lost) return;
      lost = true;
      if (!stopped) logger.warn({ code: errorCode(error) }, 'the connection for change notices was lost');
      next.end().catch(() => {
        // It is already broken; the next one is what counts.
      });
      retryLater();
    };
    next.on('error', onLost);
    next.on('end', () => onLost());
    next.on('notification', (message) => {
      const change = parseChange(message.payload);
      if (change !== undefined) options.onChange(change);
    });
    next
      .connect()
      .then(() => next.query(`LISTEN ${CHANNEL}`))
      .then(options.onReset)
      .catch(onLost);
  };

  connect();
  return {
    async stop() {
      stopped = true;
      cancelRetry?.();
      await client?.end();
    },
  };
}

function parseChange(payload: string | undefined): Change | undefined {
  try {
    const value: unknown = JSON.parse(payload ?? '');
    return typeof value === 'object' && value !== null && 'topic' in value && 'tenantId' in value
      ? (value as Change)
      : undefined;
  } catch {
    // Another program wrote to the channel; it is no change of ours.
    return undefined;
  }
}
