import type { AccessTables } from './tables/access.ts';
import type { AlertTables } from './tables/alerts.ts';
import type { AnalyticsTables } from './tables/analytics.ts';
import type { AuditTables } from './tables/audit.ts';
import type { CatalogTables } from './tables/catalog.ts';
import type { DeliveryTables } from './tables/delivery.ts';
import type { EncryptionTables } from './tables/encryption.ts';
import type { ErasureTables } from './tables/erasure.ts';
import type { EventTables } from './tables/events.ts';
import type { HttpTables } from './tables/http.ts';
import type { LimitTables } from './tables/limits.ts';
import type { LiveTables } from './tables/live.ts';
import type { RetentionTables } from './tables/retention.ts';
import type { TemplateTables } from './tables/templates.ts';
import type { TenantTables } from './tables/tenants.ts';
import type { WebhookTables } from './tables/webhooks.ts';

/**
 * The schema as the queries see it (db/migrations), by the folder of the source that a table belongs to. `bigint` columns
 * arrive as numbers, see db/pool.ts.
 */
export interface Tables
  extends TenantTables,
    AccessTables,
    LimitTables,
    EncryptionTables,
    AuditTables,
    HttpTables,
    CatalogTables,
    WebhookTables,
    TemplateTables,
    EventTables,
    DeliveryTables,
    AnalyticsTables,
    RetentionTables,
    ErasureTables,
    LiveTables,
    AlertTables {}
