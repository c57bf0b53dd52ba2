-- Alert rules with their incidents, and what the live stream shows beside attempts.

CREATE TABLE alert_rules (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id uuid NOT NULL,
  name text NOT NULL,
  metric text NOT NULL,
  threshold double precision NOT NULL,
  -- null in the next three: by the threshold and the metric.
  resolve_threshold double precision,
  for_seconds integer,
  minimum_samples integer,
  period_seconds integer NOT NULL,
  action text NOT NULL,
  -- With the action notify_webhook. It may be gone: then nobody is told.
  target_webhook_id uuid,
  -- webhook: each webhook is judged by itself.
  scope text NOT NULL CHECK (scope IN ('environment', 'webhook')),
  -- Only this one.
  webhook_id uuid,
  is_active boolean NOT NULL,
  evaluated_at timestamptz,
  next_evaluation_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, id),
  UNIQUE (tenant_id, environment_id, name),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);
CREATE INDEX alert_rules_due ON alert_rules (next_evaluation_at) WHERE is_active;

-- What a rule saw of a subject that is beyond its threshold, or was and is not yet well for long enough.
CREATE TABLE alert_states (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  rule_id uuid NOT NULL,
  -- The webhook; the nil UUID: the environment.
  subject_id uuid NOT NULL,
  breaching_since timestamptz NOT NULL,
  -- null: it is not below the resolve threshold.
  clear_since timestamptz,
  -- null: nothing has fired yet.
  incident_id uuid,
  PRIMARY KEY (tenant_id, environment_id, rule_id, subject_id),
  FOREIGN KEY (tenant_id, environment_id, rule_id) REFERENCES alert_rules ON DELETE CASCADE
);

-- What a rule said when it fired stays, whatever becomes of the rule.
CREATE TABLE alert_incidents (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id uuid NOT NULL,
  rule_id uuid NOT NULL,
  rule_name text NOT NULL,
  metric text NOT NULL,
  threshold double precision NOT NULL,
  period_seconds integer NOT NULL,
  action text NOT NULL,
  target_webhook_id uuid,
  webhook_id uuid,
  status text NOT NULL CHECK (status IN ('firing', 'acknowledged', 'resolved')),
  -- When it fired, the worst since, and at the last look.
  value double precision NOT NULL,
  worst_value double precision NOT NULL,
  last_value double precision NOT NULL,
  fired_at timestamptz NOT NULL,
  acknowledged_at timestamptz,
  acknowledged_by text,
  resolved_at timestamptz,
  resolution text,
  -- With the action scale_processing_capacity: until when more requests may be under way.
  capacity_until timestamptz,
  fired_announced boolean NOT NULL DEFAULT false,
  resolved_announced boolean NOT NULL DEFAULT false,
  -- When somebody is to be told; null: everybody was.
  announce_at timestamptz,
  PRIMARY KEY (tenant_id, environment_id, id),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);
CREATE UNIQUE INDEX alert_incidents_open ON alert_incidents (
  tenant_id, environment_id, rule_id, coalesce(webhook_id, '00000000-0000-0000-0000-000000000000')
) WHERE status <> 'resolved';
CREATE INDEX alert_incidents_unannounced ON alert_incidents (announce_at) WHERE announce_at IS NOT NULL;
CREATE INDEX alert_incidents_capacity ON alert_incidents (capacity_until) WHERE capacity_until IS NOT NULL;
CREATE INDEX alert_incidents_ended ON alert_incidents (resolved_at) WHERE resolved_at IS NOT NULL;

-- What the live stream shows beside attempts, for a day: deliveries that were cancelled, and incidents.
CREATE TABLE stream_entries (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  -- Tells the time too.
  id uuid NOT NULL,
  type text NOT NULL,
  webhook_id uuid,
  -- Whether the owner of the webhook may see it.
  for_owner boolean NOT NULL,
  data jsonb NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, id),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);
