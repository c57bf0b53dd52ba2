-- Jobs that deliver many deliveries again, a chunk at a time (delivery/recovery/).
CREATE TABLE replay_jobs (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id uuid NOT NULL,
  -- The request that made it.
  trigger text NOT NULL CHECK (trigger IN ('replays', 'recover', 'dead_letters')),
  -- null in the next four: no such bound.
  webhook_id uuid,
  event_type text,
  statuses text[],
  since_at timestamptz,
  -- Never later than the job itself, so that it does not meet the deliveries that it makes.
  until_at timestamptz NOT NULL,
  status text NOT NULL CHECK (status IN ('queued', 'running', 'completed', 'cancelled', 'failed')),
  estimated bigint NOT NULL,
  estimate_is_exact boolean NOT NULL,
  replayed bigint NOT NULL DEFAULT 0,
  skipped bigint NOT NULL DEFAULT 0,
  -- Every delivery up to here is done with.
  cursor_id uuid NOT NULL,
  -- Chunks in a row that failed.
  failures smallint NOT NULL DEFAULT 0,
  next_chunk_at timestamptz NOT NULL,
  served_at timestamptz,
  created_at timestamptz NOT NULL,
  started_at timestamptz,
  completed_at timestamptz,
  PRIMARY KEY (tenant_id, environment_id, id),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);
CREATE INDEX replay_jobs_unfinished ON replay_jobs (tenant_id, environment_id) WHERE status IN ('queued', 'running');
-- When a tenant was last served, so that tenants take turns.
CREATE INDEX replay_jobs_by_service ON replay_jobs (tenant_id, served_at) WHERE served_at IS NOT NULL;
