-- Counts of attempts by minute, hour and day.

-- What one commit saw of a webhook's attempts with events of one type, in one minute.
CREATE TYPE attempts_seen AS (
  tenant_id uuid,
  environment_id uuid,
  webhook_id uuid,
  event_type text,
  at timestamptz,
  -- Deliveries that ended dead.
  dead integer,
  -- One an attempt: its duration and its result (delivery/attempt-codes.ts).
  codes integer[]
);
-- Null where a program of an earlier version wrote the row.
ALTER TABLE webhook_tallies ADD seen attempts_seen[];
ALTER TABLE webhook_tallies ALTER seen SET STORAGE EXTERNAL;

-- The same of many commits: counts[n] says how often codes[n] was; -1 are deliveries that ended dead.
CREATE TYPE counted_attempts AS (
  tenant_id uuid,
  environment_id uuid,
  webhook_id uuid,
  event_type text,
  at timestamptz,
  codes integer[],
  counts integer[]
);

-- What was added up of tallies, until it is added to the rollups: a row each time, for a minute at most.
CREATE TABLE rollup_parts (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  parts counted_attempts[] NOT NULL
);
ALTER TABLE rollup_parts ALTER parts SET STORAGE EXTERNAL;

-- Bags of counts: counts[n] says how often keys[n] was (delivery/attempt-codes.ts). The same in each table: an attempt is counted once in every table, and there in four rows: of its webhook and event type; of the
-- webhook, with an empty event type; of the event type, with the webhook of zeros; and of the environment, with both.
CREATE TABLE rollups_minute (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  event_type text NOT NULL,
  at timestamptz NOT NULL,
  keys smallint[] NOT NULL,
  counts bigint[] NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, webhook_id, event_type, at)
);
CREATE TABLE rollups_hour (LIKE rollups_minute INCLUDING INDEXES) WITH (fillfactor = 70);
CREATE TABLE rollups_day (LIKE rollups_minute INCLUDING INDEXES) WITH (fillfactor = 70);
-- By which the oldest go.
CREATE INDEX rollups_minute_by_age ON rollups_minute (at);
CREATE INDEX rollups_hour_by_age ON rollups_hour (at);
CREATE INDEX rollups_day_by_age ON rollups_day (at);
