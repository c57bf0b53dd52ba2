-- Templates and transformations: what shapes requests, and what was sent where something did.

-- One name has one template for all event types (event_type null) and one for each that has its own.
CREATE TABLE templates (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  environment_id uuid NOT NULL,
  name text NOT NULL,
  event_type text,
  description text,
  -- The version that is in force.
  version integer NOT NULL,
  -- The number of the last version made: one that was rolled back keeps its number.
  last_version integer NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE NULLS NOT DISTINCT (tenant_id, environment_id, name, event_type),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);

-- Never changed. json, not jsonb: a template keeps the order of its members.
CREATE TABLE template_versions (
  tenant_id uuid NOT NULL,
  template_id uuid NOT NULL,
  version integer NOT NULL,
  content json NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, template_id, version),
  FOREIGN KEY (tenant_id, template_id) REFERENCES templates ON DELETE CASCADE
);

ALTER TABLE webhooks ADD transformation json;

ALTER TABLE attempts
  -- The body of a request that a template shaped. It cannot be built again from the event: templates change.
  ADD request_body bytea,
  -- The stored template that shaped it.
  ADD template_id uuid,
  ADD template_version integer;
-- What retention blanks with an event's payload. Other attempts are not in it.
CREATE INDEX attempts_shaped ON attempts (tenant_id, environment_id, event_id) WHERE request_body IS NOT NULL;
