-- What the batch statements of publishing and delivery take beside rows to copy: arrays of these, written in PostgreSQL's
-- binary format (db/row-array.ts). Programs of two versions may run at once: a row that changes becomes a type of
-- another name.

-- A delivery that gets its place in an order as it is stored.
CREATE TYPE ordered_delivery AS (
  tenant_id uuid,
  environment_id uuid,
  id uuid,
  event_id uuid,
  webhook_id uuid,
  event_type text,
  status text,
  trigger text,
  priority smallint,
  ordering_key text,
  due_at timestamptz,
  lease_node integer
);

-- What became of a delivery by an attempt.
CREATE TYPE delivery_outcome AS (
  tenant_id uuid,
  environment_id uuid,
  delivery_id uuid,
  lease_node integer,
  number integer,
  trigger text,
  status text,
  status_reason text,
  due_at timestamptz,
  next_trigger text,
  response_status integer,
  duration_ms integer,
  error_class text,
  error_message text,
  ended_at timestamptz,
  parks boolean
);

-- Attempts are asked for by their delivery, never alone: one index does for both.
ALTER TABLE attempts DROP CONSTRAINT attempts_pkey;
ALTER TABLE attempts ADD PRIMARY KEY (tenant_id, environment_id, delivery_id, id);
DROP INDEX attempts_by_delivery;

-- Keeps a node from being buried until the transaction ends; one that is buried already is an error, so that nothing
-- behind it in the transaction is stored.
CREATE FUNCTION hold_node(node integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM nodes WHERE id = node FOR KEY SHARE;
  IF NOT FOUND THEN
    RAISE 'node % is not there', node USING ERRCODE = 'PH001';
  END IF;
END
$$;
