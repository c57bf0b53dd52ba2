-- Rate limits, order, circuits and failover of webhooks, and when a webhook last succeeded and failed.

ALTER TABLE webhooks
  ADD rate_limit_per_minute integer,
  -- null in the next two: the defaults; an object holds what the webhook says for itself.
  ADD ordering jsonb,
  ADD circuit_breaker jsonb,
  ADD failover_url text,
  -- Canonical CIDRs; null: no restriction.
  ADD ip_whitelist text[];

-- The place of an ordered delivery among those of its key; null where its webhook has no order.
ALTER TABLE deliveries ADD order_number bigint;
-- CACHE 1: numbers that a session kept back would be given out after higher ones.
CREATE SEQUENCE delivery_order_numbers AS bigint CACHE 1;
-- These begin with webhook_id for the reason given at deliveries_by_webhook, and hold waiting rows only.
CREATE INDEX deliveries_in_order ON deliveries (webhook_id, tenant_id, ordering_key, order_number)
  WHERE due_at IS NOT NULL AND order_number IS NOT NULL;
CREATE INDEX deliveries_due_urgent ON deliveries (webhook_id, tenant_id, priority DESC, due_at)
  WHERE due_at IS NOT NULL AND priority > 0;

-- One row a webhook that only one node at a time may send to, because it has a rate, a concurrency or an order to keep.
CREATE TABLE lanes (
  tenant_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  -- The node that has the lane; null while it is free.
  node_id integer,
  -- No request leaves before this time, whichever node has the lane.
  paced_until timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, webhook_id),
  FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);

-- Circuits that are not closed: a webhook without a row here has a closed one.
CREATE TABLE circuits (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  state text NOT NULL CHECK (state IN ('open', 'half_open')),
  opened_at timestamptz NOT NULL,
  -- When a request may try the webhook again.
  reopens_at timestamptz NOT NULL,
  reason text NOT NULL,
  PRIMARY KEY (tenant_id, webhook_id),
  FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);

-- Keys of which an event ended dead at a webhook that parks them: later events of the key wait for that delivery.
CREATE TABLE parked_keys (
  tenant_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  ordering_key text NOT NULL,
  delivery_id uuid NOT NULL,
  parked_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, webhook_id, ordering_key),
  FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);

-- What a shard saw of a webhook's health. A streak of failures ends with the first success.
ALTER TABLE webhook_totals
  ADD last_success_at timestamptz,
  -- The first failed attempt since the last success; null when the last attempt succeeded.
  ADD failing_since timestamptz,
  -- Different days (UTC) with a failed attempt since failing_since.
  ADD failing_days integer NOT NULL DEFAULT 0,
  ADD last_failure_at timestamptz;
