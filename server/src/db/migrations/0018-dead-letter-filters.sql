-- Dead letters, and replays of them, are filtered as deliveries are: by event, response status and part of the event type.

-- Of the last attempt, as in deliveries; a letter lies there only until its delivery is attempted again.
ALTER TABLE dead_letters ADD response_status integer;
-- There may be millions: longer than a request may take. Each is looked up by itself; a join could read all deliveries.
SET LOCAL statement_timeout = 0;
UPDATE dead_letters l SET response_status = (
  SELECT d.response_status FROM deliveries d
  WHERE d.tenant_id = l.tenant_id AND d.environment_id = l.environment_id AND d.id = l.delivery_id
);
CREATE INDEX dead_letters_by_event ON dead_letters (event_id, tenant_id, delivery_id);

ALTER TABLE replay_jobs
  -- null: no such bound.
  ADD event_id uuid,
  ADD response_status integer,
  -- Part of the event type.
  ADD q text;
