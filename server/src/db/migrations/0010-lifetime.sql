-- How long records are kept, and what removes, erases and exports them.

-- What an environment says for itself of how long its records are kept; null: what its tenant says.
ALTER TABLE environments ADD retention jsonb;

-- How far a day's payloads of an environment are blanked: blanked rows cannot be told from the others without reading
-- them. A row goes with its day.
CREATE TABLE retention_cursors (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  day date NOT NULL,
  -- Every event up to here was looked at.
  cursor_id uuid NOT NULL,
  -- Payloads that were left, because a delivery of theirs still waits.
  spared bigint NOT NULL DEFAULT 0,
  completed_at timestamptz,
  PRIMARY KEY (tenant_id, environment_id, day),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);

-- Tenants and environments that were deleted and whose records are being removed (tenants/removal.ts). They have no row
-- of their own any more.
CREATE TABLE removals (
  tenant_id uuid NOT NULL,
  -- The environment; the tenant's own id: all of it.
  target_id uuid NOT NULL,
  removed bigint NOT NULL DEFAULT 0,
  failures smallint NOT NULL DEFAULT 0,
  next_step_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, target_id)
);

-- Jobs that erase what is held of a person (erasure/).
CREATE TABLE erasure_jobs (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id uuid NOT NULL,
  path text[] NOT NULL,
  -- The value looked for, sealed; null once the job has ended.
  value_box bytea,
  -- A keyed hash of the value, so that a later question whether it was erased can be answered.
  value_hash bytea NOT NULL,
  since_at timestamptz,
  -- Never later than the job itself.
  until_at timestamptz NOT NULL,
  status text NOT NULL CHECK (status IN ('queued', 'running', 'completed', 'cancelled', 'failed')),
  stage text NOT NULL CHECK (stage IN ('events', 'settle', 'vacuum')),
  -- Every event up to here was looked at.
  cursor_id uuid NOT NULL,
  looked_at bigint NOT NULL DEFAULT 0,
  erased_events bigint NOT NULL DEFAULT 0,
  erased_attempts bigint NOT NULL DEFAULT 0,
  discarded_deliveries bigint NOT NULL DEFAULT 0,
  removed_dead_letters bigint NOT NULL DEFAULT 0,
  erased_samples bigint NOT NULL DEFAULT 0,
  removed_answers bigint NOT NULL DEFAULT 0,
  -- Deliveries that a node had in hand: what it records of them after the erasure is erased in the end.
  in_hand uuid[] NOT NULL DEFAULT '{}',
  -- Tables whose dead rows are to be vacuumed.
  touched text[] NOT NULL DEFAULT '{}',
  failures smallint NOT NULL DEFAULT 0,
  next_step_at timestamptz NOT NULL,
  served_at timestamptz,
  created_at timestamptz NOT NULL,
  started_at timestamptz,
  completed_at timestamptz,
  PRIMARY KEY (tenant_id, environment_id, id),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);
CREATE INDEX erasure_jobs_unfinished ON erasure_jobs (tenant_id, environment_id) WHERE status IN ('queued', 'running');

CREATE TRIGGER hold_sealing_key BEFORE INSERT OR UPDATE OF value_box ON erasure_jobs
  FOR EACH ROW WHEN (NEW.value_box IS NOT NULL) EXECUTE FUNCTION hold_sealing_key('value_box');
