import type { Json, Timestamp } from './columns.ts';

/** Of `access/`: keys, issuers of JWTs, and which portal tokens were revoked. */
export interface AccessTables {
  api_keys: ApiKeysTable;
  api_key_old_secrets: ApiKeyOldSecretsTable;
  jwt_issuers: JwtIssuersTable;
  portal_revocations: PortalRevocationsTable;
}

interface ApiKeysTable {
  tenant_id: string;
  id: string;
  environment_id: string;
  name: string;
  role: string;
  key_hash: Buffer;
  key_hint: string;
  expires_at: Timestamp | null;
  last_used_at: Timestamp | null;
  revoked_at: Timestamp | null;
  requests_per_second: number | null;
  created_at: Timestamp;
  scopes: string[] | null;
  rotated_at: Timestamp | null;
}

interface ApiKeyOldSecretsTable {
  tenant_id: string;
  key_id: string;
  key_hash: Buffer;
  expires_at: Timestamp;
}

interface JwtIssuersTable {
  id: string;
  tenant_id: string | null;
  name: string;
  issuer: string;
  audience: string;
  secret_box: Buffer | null;
  jwks_url: string | null;
  clock_skew_seconds: number;
  max_lifetime_seconds: number;
  claims: Json<unknown>;
  roles: Json<unknown> | null;
  default_role: string | null;
  default_environment: string;
  created_at: Timestamp;
  updated_at: Timestamp;
}

interface PortalRevocationsTable {
  tenant_id: string;
  environment_id: string;
  owner: string;
  number: number;
  revoked_at: Timestamp;
}
