/**
 * Takes from the buckets of limits a second. A bucket holds one second's worth. Of what is wanted `now`, all or nothing
 * is given where it is `whole`, else what is there. What is given `ahead` may be used for `hold` seconds, so it counts
 * as if it was used at the end of them: whatever the nodes do with it, no stretch of t seconds has more than the limit
 * times (t + 1). The clock is the database's alone.
 *
 * Rows are locked in one order, and a row that is not there gives nothing back: see ADD_RATE_LIMITS.
 * $1 tenants, $2 subjects, $3 a second, $4 wanted now, $5 whole, $6 wanted ahead, $7 hold.
 */
export const TAKE_RATE = {
  name: 'take-rate',
  text: `
WITH locked AS MATERIALIZED (
  SELECT r.tenant_id, r.subject, r.arrival_at, w.per_second, w.now, w.whole, w.ahead, clock_timestamp() AS at
  FROM rate_limits r
  JOIN unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::bool[], $6::int[])
    AS w (tenant_id, subject, per_second, now, whole, ahead) USING (tenant_id, subject)
  ORDER BY r.tenant_id, r.subject FOR UPDATE OF r
),
room AS (
  SELECT *, floor((1 - extract(epoch FROM greatest(arrival_at, at) - at)) * per_second)::int AS room FROM locked
),
given AS (
  SELECT *, CASE WHEN room >= now THEN now WHEN whole THEN 0 ELSE greatest(room, 0) END AS given_now FROM room
),
after_now AS (
  SELECT *, CASE WHEN given_now = 0 THEN arrival_at
    ELSE greatest(arrival_at, at) + given_now * interval '1 second' / per_second END AS now_at
  FROM given
),
given_ahead AS (
  SELECT *, CASE WHEN given_now < now THEN 0 ELSE greatest(0, least(ahead,
    floor((1 - extract(epoch FROM greatest(now_at, at + $7 * interval '1 second') - at)) * per_second)::int)) END
    AS given_ahead
  FROM after_now
),
after_all AS (
  SELECT *, CASE WHEN given_ahead = 0 THEN now_at
    ELSE greatest(now_at, at + $7 * interval '1 second') + given_ahead * interval '1 second' / per_second END AS ahead_at
  FROM given_ahead
)
UPDATE rate_limits r SET arrival_at = a.ahead_at FROM after_all a
WHERE r.tenant_id = a.tenant_id AND r.subject = a.subject
RETURNING r.tenant_id, r.subject, a.given_now, a.given_ahead,
  (extract(epoch FROM greatest(a.ahead_at, a.at) - a.at) * 1000)::float8 AS reset_ms`,
} as const;

/** Full buckets for what has none yet. $1 tenants, $2 subjects; those of tenants that are gone are left out. */
export const ADD_RATE_LIMITS = {
  name: 'add-rate-limits',
  text: `
INSERT INTO rate_limits (tenant_id, subject, arrival_at)
SELECT w.tenant_id, w.subject, '-infinity' FROM unnest($1::uuid[], $2::text[]) AS w (tenant_id, subject)
JOIN tenants t ON t.id = w.tenant_id ORDER BY w.tenant_id, w.subject
ON CONFLICT DO NOTHING`,
} as const;

/**
 * Takes from what tenants may publish in a day (UTC, by the database's clock), in the same way, and gives back what was
 * taken ahead of the same day and not used.
 * $1 tenants, $2 a day, $3 wanted now, $4 whole, $5 wanted ahead, $6 given back, $7 of which day (`YYYY-MM-DD`).
 */
export const TAKE_DAILY = {
  name: 'take-daily',
  text: `
WITH locked AS MATERIALIZED (
  SELECT d.tenant_id, d.day, d.used, w.per_day, w.now, w.whole, w.ahead, w.back, w.back_day,
    clock_timestamp() AT TIME ZONE 'UTC' AS at
  FROM daily_usage d
  JOIN unnest($1::uuid[], $2::int[], $3::int[], $4::bool[], $5::int[], $6::int[], $7::date[])
    AS w (tenant_id, per_day, now, whole, ahead, back, back_day) USING (tenant_id)
  ORDER BY d.tenant_id FOR UPDATE OF d
),
before AS (
  SELECT *, CASE WHEN day <> at::date THEN 0
    ELSE greatest(0, used - CASE WHEN back_day = day THEN back ELSE 0 END) END AS before FROM locked
),
given AS (
  SELECT *, CASE WHEN per_day - before >= now THEN now WHEN whole THEN 0
    ELSE greatest(0, per_day - before) END AS given_now FROM before
),
given_ahead AS (
  SELECT *, CASE WHEN given_now < now THEN 0
    ELSE greatest(0, least(ahead, per_day - before - given_now)) END AS given_ahead FROM given
)
UPDATE daily_usage d SET day = a.at::date, used = a.before + a.given_now + a.given_ahead FROM given_ahead a
WHERE d.tenant_id = a.tenant_id
RETURNING d.tenant_id, d.day::text, a.given_now::int, a.given_ahead::int,
  greatest(0, a.per_day - d.used)::int AS remaining,
  (extract(epoch FROM a.at::date + 1 - a.at) * 1000)::float8 AS day_ends_ms`,
} as const;

/** Rows for tenants that have published nothing under a quota yet. $1 tenants; those that are gone are left out. */
export const ADD_DAILY = {
  name: 'add-daily',
  text: `
INSERT INTO daily_usage (tenant_id, day, used)
SELECT id, '-infinity', 0 FROM tenants WHERE id = ANY ($1::uuid[]) ORDER BY id
ON CONFLICT DO NOTHING`,
} as const;
