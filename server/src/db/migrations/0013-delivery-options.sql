-- How requests to a webhook are made: their content coding, several deliveries in one, and how Posthorn proves who it is.
ALTER TABLE webhooks
  ADD COLUMN compression text NOT NULL DEFAULT 'none' CHECK (compression IN ('none', 'gzip')),
  ADD COLUMN batching jsonb,
  -- All of it sealed, with its kind: webhooks/auth/settings.ts. null: none.
  ADD COLUMN auth_box bytea;

-- A table has one trigger of a name.
CREATE TRIGGER hold_sealing_key_of_auth BEFORE INSERT OR UPDATE OF auth_box ON webhooks
  FOR EACH ROW WHEN (NEW.auth_box IS NOT NULL) EXECUTE FUNCTION hold_sealing_key('auth_box');
