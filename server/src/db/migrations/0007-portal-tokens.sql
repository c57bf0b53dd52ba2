-- Tokens for a tenant's portal (access/portal-token.ts). They are signed and not stored; what is stored is which were revoked.

-- The webhooks of one owner are asked for by every request of a portal.
CREATE INDEX webhooks_by_owner ON webhooks (tenant_id, environment_id, owner) WHERE owner IS NOT NULL;

-- A token carries the number that the sequence stood at when it was made. Numbers and no times: the clocks of nodes
-- differ, and a token that was made just before a revocation must not survive it.
CREATE SEQUENCE portal_revocation_numbers AS bigint CACHE 1;
CREATE TABLE portal_revocations (
  tenant_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  -- Of tokens with this owner; empty: of all tokens of the environment. No token has an empty owner.
  owner text NOT NULL,
  -- Tokens with a smaller number are revoked.
  number bigint NOT NULL,
  revoked_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, environment_id, owner),
  FOREIGN KEY (tenant_id, environment_id) REFERENCES environments ON DELETE CASCADE
);
CREATE INDEX portal_revocations_by_age ON portal_revocations (revoked_at);

-- A replay job of a portal token keeps to the webhooks that have its owner; null: to no owner.
ALTER TABLE replay_jobs ADD owner text;
