-- Who did what (audit/). Each tenant has a chain of entries, and the platform has one under the nil UUID for what belongs
-- to no tenant. An entry's hash covers the one before it; `audit_chains` says where each chain ends.

CREATE TABLE audit_chains (
  tenant_id uuid PRIMARY KEY,
  -- Of the last entry; 0 before the first one.
  sequence bigint NOT NULL,
  hash bytea NOT NULL,
  -- Of the last entry that was removed because of its age: what is left is checked from here on.
  removed_sequence bigint NOT NULL,
  removed_hash bytea NOT NULL,
  CHECK (removed_sequence >= 0 AND removed_sequence <= sequence)
);

CREATE TABLE audit_log (
  tenant_id uuid NOT NULL,
  sequence bigint NOT NULL,
  -- Tells the time too.
  id uuid NOT NULL,
  -- null: of the tenant as a whole.
  environment_id uuid,
  action text NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('success', 'denied')),
  -- null in the next five: not known.
  actor_kind text,
  actor_id text,
  role text,
  address text,
  request_id text,
  resource_type text,
  resource_id text,
  -- json, not jsonb: the hash is one of the exact text.
  before json,
  after json,
  details json,
  -- SHA-256 of the hash before it, the sequence number and all columns above (audit/hash.ts).
  hash bytea NOT NULL,
  PRIMARY KEY (tenant_id, sequence)
);
CREATE UNIQUE INDEX audit_log_by_id ON audit_log (tenant_id, id);
CREATE INDEX audit_log_by_resource ON audit_log (tenant_id, resource_id, id);
CREATE INDEX audit_log_by_actor ON audit_log (tenant_id, actor_id, id);

CREATE FUNCTION begin_audit_chain(tenant uuid) RETURNS void LANGUAGE sql AS $$
  INSERT INTO audit_chains (tenant_id, sequence, hash, removed_sequence, removed_hash)
  SELECT tenant, 0, start, 0, start FROM sha256(convert_to('posthorn audit ' || tenant, 'UTF8')) AS start
$$;

SELECT begin_audit_chain('00000000-0000-0000-0000-000000000000');
SELECT begin_audit_chain(id) FROM tenants;

-- A chain begins and goes with its tenant, whoever makes or removes that: an entry without a chain cannot be written. The
-- entries may be many, and are removed after it, a batch at a time (tenants/removal.ts).
CREATE FUNCTION begin_audit_of_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM begin_audit_chain(NEW.id);
  RETURN NULL;
END
$$;
CREATE TRIGGER begin_audit AFTER INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION begin_audit_of_tenant();

CREATE FUNCTION end_audit_of_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM audit_chains WHERE tenant_id = OLD.id;
  RETURN NULL;
END
$$;
CREATE TRIGGER end_audit AFTER DELETE ON tenants FOR EACH ROW EXECUTE FUNCTION end_audit_of_tenant();

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE 'the audit log is append-only';
END
$$;
CREATE TRIGGER refuse_update BEFORE UPDATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

-- Only what the chain says was removed may be removed, and what belongs to no chain any more.
CREATE FUNCTION refuse_audit_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (
    SELECT FROM removed JOIN audit_chains USING (tenant_id) WHERE removed.sequence > audit_chains.removed_sequence
  ) THEN
    RAISE 'the audit log is append-only';
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER refuse_removal AFTER DELETE ON audit_log REFERENCING OLD TABLE AS removed
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_removal();
