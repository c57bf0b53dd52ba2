-- Operational events that are still to be published, and where the live stream tells of more than attempts.

-- Written with what happened, and deleted once its event is published. Alerts keep this in alert_incidents.
CREATE TABLE announcements (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id bigint GENERATED ALWAYS AS IDENTITY,
  -- The event's, such as delivery.dead.
  type text NOT NULL,
  -- Of whom it tells, as it was when it happened.
  webhook_id uuid NOT NULL,
  webhook_name text NOT NULL,
  webhook_url text NOT NULL,
  webhook_owner text,
  occurred_at timestamptz NOT NULL,
  -- What else it tells; ids are UUIDs.
  details jsonb NOT NULL,
  -- When a node is to publish it. Whoever does so moves it on, for the case that he is killed meanwhile.
  due_at timestamptz NOT NULL DEFAULT '-infinity',
  -- How many like it were left out before it; null: no node had it in hand yet.
  omitted_before integer,
  PRIMARY KEY (tenant_id, environment_id, id)
);
CREATE INDEX announcements_due ON announcements (due_at, id);

-- How much was told lately of what happens often: dead deliveries of an environment, recoveries of a webhook.
CREATE TABLE announcement_paces (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  -- The webhook; the nil UUID: the environment.
  subject_id uuid NOT NULL,
  -- The first that was told of within the time.
  since timestamptz NOT NULL,
  told integer NOT NULL,
  -- Left out, and not told of yet.
  omitted integer NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, subject_id)
);

-- The few whom the statement that records dead deliveries asks for. Its condition is written the same in announcements.ts.
CREATE INDEX webhooks_told_of_deaths ON webhooks (tenant_id, environment_id)
  WHERE events && '{delivery.dead,delivery.*}'::text[];

-- Environments that somebody listens to, or did within the time that a stream can be resumed from: only there is written
-- that a delivery is held or discarded.
CREATE TABLE stream_listeners (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  until timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, environment_id),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);

-- A UUIDv7 of the moment, for a row of stream_entries that a statement writes of many deliveries.
CREATE FUNCTION stream_entry_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT (
    lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
    || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
  )::uuid
$$;
