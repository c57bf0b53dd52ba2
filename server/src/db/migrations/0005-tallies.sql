-- What one commit of attempts saw of a webhook.
CREATE TYPE webhook_tally AS (
  tenant_id uuid,
  webhook_id uuid,
  delivered integer,
  dead integer,
  attempts integer,
  response_time_ms bigint,
  last_at timestamptz,
  -- Successes at the failover URL are none of the webhook itself, and faults of ours no failures.
  last_success_at timestamptz,
  first_failure_at timestamptz,
  last_failure_at timestamptz
);

-- A row a commit, until it is added to webhook_totals: a commit counts for hundreds of webhooks, and a row of totals for
-- each would cost more than all else that it writes.
CREATE TABLE webhook_tallies (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tallies webhook_tally[] NOT NULL
);
-- Gone within seconds; compressing them would cost more than it saves.
ALTER TABLE webhook_tallies ALTER tallies SET STORAGE EXTERNAL;

-- One row a webhook in place of one a shard.
ALTER TABLE webhook_totals RENAME TO webhook_totals_by_shard;
ALTER TABLE webhook_totals_by_shard RENAME CONSTRAINT webhook_totals_pkey TO webhook_totals_by_shard_pkey;
CREATE TABLE webhook_totals (
  tenant_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  delivered bigint NOT NULL DEFAULT 0,
  dead bigint NOT NULL DEFAULT 0,
  attempts bigint NOT NULL DEFAULT 0,
  response_time_ms_sum bigint NOT NULL DEFAULT 0,
  last_triggered_at timestamptz NOT NULL,
  last_success_at timestamptz,
  -- The first failed attempt since the last success; null when the last attempt succeeded.
  failing_since timestamptz,
  -- Different days (UTC) with a failed attempt since failing_since.
  failing_days integer NOT NULL DEFAULT 0,
  last_failure_at timestamptz,
  PRIMARY KEY (tenant_id, webhook_id)
) WITH (fillfactor = 50);
INSERT INTO webhook_totals
SELECT
  s.tenant_id, s.webhook_id, sum(s.delivered), sum(s.dead), sum(s.attempts), sum(s.response_time_ms_sum),
  max(s.last_triggered_at), max(s.last_success_at), min(s.failing_since) FILTER (WHERE s.goes_on),
  coalesce(max(s.failing_days) FILTER (WHERE s.goes_on), 0), max(s.last_failure_at)
FROM (
  SELECT *, failing_since > coalesce(max(last_success_at) OVER (PARTITION BY tenant_id, webhook_id), '-infinity') AS goes_on
  FROM webhook_totals_by_shard
) s
GROUP BY s.tenant_id, s.webhook_id;
DROP TABLE webhook_totals_by_shard;
