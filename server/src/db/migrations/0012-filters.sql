-- What a webhook wants of the events that it is subscribed to; null: all of them. filter_mode null: `all`.
ALTER TABLE webhooks ADD filters jsonb, ADD filter_mode text CHECK (filter_mode IN ('all', 'any'));

-- Events that the filters kept from the webhook. It may have had nothing but those.
ALTER TABLE webhook_totals ADD filtered bigint NOT NULL DEFAULT 0, ALTER last_triggered_at DROP NOT NULL;

-- What one commit of events counted of that, until it is added to webhook_totals: the n-th elements belong together.
CREATE TABLE filtered_tallies (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenants uuid[] NOT NULL,
  webhooks uuid[] NOT NULL,
  counts integer[] NOT NULL
);
