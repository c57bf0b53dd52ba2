-- The keys that secrets are sealed, API keys hashed and portal tokens signed with, each wrapped by the master key (POSTHORN_ENCRYPTION_KEY).
-- The program makes the first ones when it starts: SQL has no master key.
CREATE TABLE encryption_keys (
  -- Sealed values name it. 0 is the key of values from before this table.
  id integer PRIMARY KEY CHECK (id >= 0),
  purpose text NOT NULL CHECK (purpose IN ('sealing', 'hashing', 'portal')),
  -- 'next': known to the nodes, and not yet used. 'current': in use. 'old': opens only, until nothing is sealed with it.
  state text NOT NULL CHECK (state IN ('next', 'current', 'old')),
  wrapped bytea NOT NULL,
  -- Recognises the master key that wraps it, and tells nothing of it.
  master_key text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX encryption_keys_in_use ON encryption_keys (purpose, state) WHERE state <> 'old';

-- The running processes that hold keys: a rotation waits for them.
CREATE TABLE key_holders (
  id uuid PRIMARY KEY,
  pid integer NOT NULL,
  host text NOT NULL,
  seen_at timestamptz NOT NULL,
  -- The newest data key that it can open values with, and the one that it seals with; null until it has read them.
  newest_key integer,
  current_key integer,
  -- The names of the master keys that it is configured with.
  master_keys text[] NOT NULL
);

-- The data key that a value is sealed with. -1: the value is none.
CREATE FUNCTION sealing_key(box bytea) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN substring(box FROM 1 FOR 1) = '\x01' THEN 0
    WHEN substring(box FROM 1 FOR 1) = '\x02' AND length(box) >= 5 AND get_byte(substring(box FROM 2 FOR 1), 0) < 128 THEN
      (get_byte(substring(box FROM 2 FOR 4), 0) << 24) | (get_byte(substring(box FROM 2 FOR 4), 1) << 16)
      | (get_byte(substring(box FROM 2 FOR 4), 2) << 8) | get_byte(substring(box FROM 2 FOR 4), 3)
    ELSE -1
  END
$$;

-- Nothing can be stored that is sealed with a data key that is gone, as by a process that hung while the key was rotated.
-- The key's row is held until the transaction ends, so that it cannot be removed in between. It is what a foreign key
-- does, for a value that has the reference in its first bytes. Its argument is the column's name.
CREATE FUNCTION hold_sealing_key() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  box bytea;
BEGIN
  EXECUTE format('SELECT ($1).%I', TG_ARGV[0]) INTO box USING NEW;
  PERFORM FROM encryption_keys WHERE id = sealing_key(box) AND purpose = 'sealing' FOR KEY SHARE;
  IF NOT FOUND AND EXISTS (SELECT FROM encryption_keys) THEN
    RAISE 'data key % is not there', sealing_key(box) USING ERRCODE = 'PH002';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER hold_sealing_key BEFORE INSERT OR UPDATE OF headers_box ON webhooks
  FOR EACH ROW WHEN (NEW.headers_box IS NOT NULL) EXECUTE FUNCTION hold_sealing_key('headers_box');
CREATE TRIGGER hold_sealing_key BEFORE INSERT OR UPDATE OF secret_box ON webhook_secrets
  FOR EACH ROW EXECUTE FUNCTION hold_sealing_key('secret_box');
CREATE TRIGGER hold_sealing_key BEFORE INSERT OR UPDATE OF secret_box ON jwt_issuers
  FOR EACH ROW WHEN (NEW.secret_box IS NOT NULL) EXECUTE FUNCTION hold_sealing_key('secret_box');
CREATE TRIGGER hold_sealing_key BEFORE INSERT OR UPDATE OF response_box ON idempotent_requests
  FOR EACH ROW WHEN (NEW.response_box IS NOT NULL) EXECUTE FUNCTION hold_sealing_key('response_box');
