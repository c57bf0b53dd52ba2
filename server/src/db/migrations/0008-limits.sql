-- What a tenant may use, and whether it may be used at all. Both are the operator's to say.
ALTER TABLE tenants
  -- Only what was set for this tenant; the rest is the program's default.
  ADD COLUMN limits jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN suspended_at timestamptz,
  ADD COLUMN suspended_reason text;

ALTER TABLE api_keys ADD COLUMN requests_per_second integer;

-- From these rows nodes that share the database take what they may let through. One for each limit that is in use.
-- Unlogged: what is lost in a crash of PostgreSQL is the memory of the last second.
CREATE UNLOGGED TABLE rate_limits (
  tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
  -- What is limited: `requests`, `events`, or `key:` and the id of an API key.
  subject text NOT NULL,
  -- The theoretical arrival time of GCRA: until then, what was let through so far would take at the limit's rate.
  arrival_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, subject)
) WITH (fillfactor = 50);

-- Events published on a day (UTC), those included that nodes took ahead of need.
CREATE TABLE daily_usage (
  tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
  day date NOT NULL,
  used bigint NOT NULL
) WITH (fillfactor = 50);
