-- Tenants, keys, webhooks, events, deliveries and attempts.
-- Every row of a tenant names it first; every query does too. events, deliveries and attempts are partitioned by day
-- on their time-ordered id (db/partitions.ts makes the partitions), so that a day can go as a whole table.

CREATE TABLE tenants (
  id uuid PRIMARY KEY,
  slug text NOT NULL UNIQUE,
  name text NOT NULL,
  settings jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL
);

CREATE TABLE environments (
  tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
  id uuid NOT NULL,
  name text NOT NULL,
  -- Name of the preset whose envelope, headers, signature form and retry policy a webhook has by default.
  preset text NOT NULL DEFAULT 'standard',
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, name)
);

CREATE TABLE api_keys (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  environment_id uuid NOT NULL,
  name text NOT NULL,
  role text NOT NULL,
  -- HMAC-SHA256 of the key under a key derived from the encryption key; the key itself is never stored.
  key_hash bytea NOT NULL UNIQUE,
  -- The first characters of the key, so that a person can tell keys apart.
  key_hint text NOT NULL,
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);

CREATE TABLE event_types (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  name text NOT NULL,
  group_name text NOT NULL,
  description text NOT NULL,
  -- json, not jsonb: samples keep their key order and number spellings.
  schema json,
  sample json,
  enforce_schema boolean NOT NULL DEFAULT false,
  deprecated boolean NOT NULL DEFAULT false,
  preset text,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, name),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);

CREATE TABLE webhooks (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  environment_id uuid NOT NULL,
  name text NOT NULL,
  url text NOT NULL,
  description text,
  owner text,
  metadata jsonb NOT NULL DEFAULT '{}',
  events text[] NOT NULL,
  status text NOT NULL CHECK (status IN ('active', 'paused', 'disabled')),
  status_reason text,
  http_method text NOT NULL,
  -- Sealed JSON object of header name to value: values may be credentials.
  headers_box bytea,
  -- null in the next five: what the preset says.
  preset text,
  envelope text,
  signature jsonb,
  retry_policy jsonb,
  timeout_seconds integer,
  max_concurrency integer,
  priority smallint NOT NULL DEFAULT 0,
  verify_tls boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);
CREATE INDEX webhooks_by_environment ON webhooks (tenant_id, environment_id, id);

CREATE TABLE webhook_secrets (
  tenant_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('symmetric', 'asymmetric')),
  secret_box bytea NOT NULL,
  created_at timestamptz NOT NULL,
  -- Set when a newer secret replaced this one: it signs beside the newer one until then.
  expires_at timestamptz,
  PRIMARY KEY (tenant_id, webhook_id, id),
  FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);

-- Ended deliveries and attempts a webhook, counted where they are recorded. One row a shard, so that nodes seldom
-- wait for each other's row.
CREATE TABLE webhook_totals (
  tenant_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  shard smallint NOT NULL,
  delivered bigint NOT NULL DEFAULT 0,
  dead bigint NOT NULL DEFAULT 0,
  attempts bigint NOT NULL DEFAULT 0,
  failed_attempts bigint NOT NULL DEFAULT 0,
  response_time_ms_sum bigint NOT NULL DEFAULT 0,
  last_triggered_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, webhook_id, shard)
) WITH (fillfactor = 50);

CREATE TABLE events (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id uuid NOT NULL,
  external_id text,
  event_type text NOT NULL,
  occurred_at timestamptz NOT NULL,
  -- The published JSON to the byte; null once erased.
  data bytea,
  metadata bytea,
  ordering_key text,
  priority smallint NOT NULL,
  deliver_at timestamptz,
  delivery_count integer NOT NULL,
  is_test boolean NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, id)
) PARTITION BY RANGE (id);

-- Publisher's event ids and idempotency keys: who comes second finds the first one's event here.
CREATE TABLE event_keys (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('event_id', 'idempotency_key')),
  key text NOT NULL,
  event_id uuid NOT NULL,
  body_hash bytea NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, kind, key)
);
CREATE INDEX event_keys_by_age ON event_keys (kind, created_at);

CREATE TABLE deliveries (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id uuid NOT NULL,
  event_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  event_type text NOT NULL,
  status text NOT NULL CHECK (status IN ('pending', 'delivered', 'failed', 'dead', 'cancelled', 'held', 'discarded')),
  status_reason text,
  trigger text NOT NULL,
  priority smallint NOT NULL,
  ordering_key text,
  attempt_count integer NOT NULL,
  -- When the row waits for its next attempt; 'infinity' while held; null while a node has it in hand or it has ended.
  due_at timestamptz,
  -- The node that has the row in hand; null while it waits or has ended.
  lease_node integer,
  response_status integer,
  response_time_ms integer,
  error_class text,
  error_message text,
  completed_at timestamptz,
  PRIMARY KEY (tenant_id, environment_id, id)
) PARTITION BY RANGE (id);
-- These do not begin with tenant_id: a planner without statistics, as in a partition that is still empty, would take an
-- index for (tenant_id = …) alone in place of the primary key, and read all of the tenant's rows for each update.
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, tenant_id, id);
CREATE INDEX deliveries_by_event ON deliveries (event_id, tenant_id);
-- Happy-path rows never enter this index: they are inserted leased (due_at null) and end with due_at null.
CREATE INDEX deliveries_due ON deliveries (webhook_id, tenant_id, due_at) WHERE due_at IS NOT NULL;
-- Finds what a dead node had in hand: ids grow with time, so a block range index costs the inserts nothing.
CREATE INDEX deliveries_by_age ON deliveries USING brin (id) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE attempts (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id uuid NOT NULL,
  delivery_id uuid NOT NULL,
  event_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  event_type text NOT NULL,
  number integer NOT NULL,
  trigger text NOT NULL,
  url text NOT NULL,
  http_method text NOT NULL,
  request_headers text NOT NULL,
  -- The envelope the body was built with: body = envelope(event, number), so the payload is stored once, in events.
  envelope text NOT NULL,
  response_status integer,
  response_headers text,
  response_body bytea,
  response_truncated boolean NOT NULL,
  error_class text,
  error_message text,
  duration_ms integer NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, id)
) PARTITION BY RANGE (id);
CREATE INDEX attempts_by_delivery ON attempts (delivery_id, tenant_id);
CREATE INDEX attempts_by_webhook ON attempts (webhook_id, tenant_id, id);

-- A table of its own, because an index on deliveries.status would cost every delivery its heap-only update.
CREATE TABLE dead_letters (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  delivery_id uuid NOT NULL,
  event_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  event_type text NOT NULL,
  reason text NOT NULL,
  attempt_count integer NOT NULL,
  dead_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, delivery_id)
);
CREATE INDEX dead_letters_by_webhook ON dead_letters (webhook_id, tenant_id, delivery_id);

-- Running Posthorn processes. A node that is gone is recognised by its heartbeat; its rows are then taken over.
CREATE TABLE nodes (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  started_at timestamptz NOT NULL,
  heartbeat_at timestamptz NOT NULL,
  -- No delivery older than this is in the node's hands: where the search for its leases begins.
  oldest_leased_id uuid NOT NULL
);

-- Answers of POST requests that carried an Idempotency-Key, sealed, kept for 24 hours.
CREATE TABLE idempotent_requests (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  key text NOT NULL,
  request_hash bytea NOT NULL,
  -- null while the first request is still under way.
  response_status integer,
  response_box bytea,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, key)
);
CREATE INDEX idempotent_requests_by_age ON idempotent_requests (created_at);

-- A sealed text that only the right encryption key opens (db/encryption-check.ts).
CREATE TABLE encryption_check (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  sealed bytea NOT NULL
);
