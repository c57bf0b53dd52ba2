import type { Generated } from 'kysely';
import type { Timestamp } from './columns.ts';

/** Of `alerts/`: rules, what is remembered of their subjects, and incidents. */
export interface AlertTables {
  alert_rules: AlertRulesTable;
  alert_states: AlertStatesTable;
  alert_incidents: AlertIncidentsTable;
}

interface AlertRulesTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  name: string;
  metric: string;
  threshold: number;
  resolve_threshold: number | null;
  for_seconds: number | null;
  minimum_samples: number | null;
  period_seconds: number;
  action: string;
  target_webhook_id: string | null;
  scope: 'environment' | 'webhook';
  webhook_id: string | null;
  is_active: boolean;
  evaluated_at: Timestamp | null;
  next_evaluation_at: Timestamp;
  created_at: Timestamp;
  updated_at: Timestamp;
}

interface AlertStatesTable {
  tenant_id: string;
  environment_id: string;
  rule_id: string;
  subject_id: string;
  breaching_since: Timestamp;
  clear_since: Timestamp | null;
  incident_id: string | null;
}

interface AlertIncidentsTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  rule_id: string;
  rule_name: string;
  metric: string;
  threshold: number;
  period_seconds: number;
  action: string;
  target_webhook_id: string | null;
  webhook_id: string | null;
  status: 'firing' | 'acknowledged' | 'resolved';
  value: number;
  worst_value: number;
  last_value: number;
  fired_at: Timestamp;
  acknowledged_at: Timestamp | null;
  acknowledged_by: string | null;
  resolved_at: Timestamp | null;
  resolution: string | null;
  capacity_until: Timestamp | null;
  fired_announced: Generated<boolean>;
  resolved_announced: Generated<boolean>;
  announce_at: Timestamp | null;
}
