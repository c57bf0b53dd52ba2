import type { Json, Timestamp } from './columns.ts';

/** Of `templates/`: stored templates and their versions. */
export interface TemplateTables {
  templates: TemplatesTable;
  template_versions: TemplateVersionsTable;
}

interface TemplatesTable {
  tenant_id: string;
  id: string;
  environment_id: string;
  name: string;
  /** null: for all event types. */
  event_type: string | null;
  description: string | null;
  version: number;
  last_version: number;
  created_at: Timestamp;
  updated_at: Timestamp;
}

interface TemplateVersionsTable {
  tenant_id: string;
  template_id: string;
  version: number;
  content: Json<unknown>;
  created_at: Timestamp;
}
