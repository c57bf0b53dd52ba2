-- API keys that may do less than their role, keys that have two secrets while they are rotated, and who signs JWTs.

-- Permissions (http/permissions.ts) that the key has of those of its role; null: all of them.
ALTER TABLE api_keys ADD COLUMN scopes text[];
ALTER TABLE api_keys ADD COLUMN rotated_at timestamptz;

-- What a key was before it was rotated, for as long as that still works.
CREATE TABLE api_key_old_secrets (
  tenant_id uuid NOT NULL,
  key_id uuid NOT NULL,
  -- As in api_keys.
  key_hash bytea NOT NULL UNIQUE,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, key_id, key_hash),
  FOREIGN KEY (tenant_id, key_id) REFERENCES api_keys ON DELETE CASCADE
);

-- Whose JWTs are taken. They are the operator's; one with a tenant speaks for that tenant alone.
CREATE TABLE jwt_issuers (
  id uuid PRIMARY KEY,
  tenant_id uuid REFERENCES tenants ON DELETE CASCADE,
  name text NOT NULL,
  issuer text NOT NULL,
  audience text NOT NULL,
  -- HS256, sealed for `jwt_issuers/<id>/secret`; or the keys are at the URL.
  secret_box bytea,
  jwks_url text,
  clock_skew_seconds integer NOT NULL,
  max_lifetime_seconds integer NOT NULL,
  claims json NOT NULL,
  -- From the token's role to ours; null: the token uses our names.
  roles json,
  default_role text,
  default_environment text NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  CHECK ((secret_box IS NULL) <> (jwks_url IS NULL))
);
CREATE INDEX jwt_issuers_by_tenant ON jwt_issuers (tenant_id);
