-- A tenant's raw events on their way to the storage class of its tier. In: a tenant. Out: what moved.

-- list_moving()
-- Tenants whose events may stand in another class than their tier's.
SELECT id, slug, moving_since FROM tenants WHERE moving_since IS NOT NULL ORDER BY moving_since;

-- try_to_move(tenant_id)
-- Whether no other process moves this tenant's events now; until the end of the transaction.
SELECT pg_try_advisory_xact_lock(hashtext('moving.try_to_move'), hashtext($1::uuid::text)) AS is_mine;

-- next_to_move(tenant_id, tier, most)
-- The first and the last of the oldest so many events of other classes, as far as they are of one day; nothing: there
-- are none. Many may have one timestamp, so an event's place is its timestamp and its id.
WITH oldest AS (
    SELECT ts, id, min(ts) OVER () AS first
    FROM (SELECT ts, id FROM events WHERE tenant_id = $1 AND retention_class <> $2 ORDER BY ts, id LIMIT $3) others
)
SELECT first, ts AS last, id AS last_id FROM oldest
WHERE ts < date_trunc('day', first, 'UTC') + interval '1 day'
ORDER BY ts DESC, id DESC LIMIT 1;

-- move_events(tenant_id, tier, first, last, last_id)
-- Puts a span of events into the tier's class.
WITH gone AS (
    DELETE FROM events
    WHERE tenant_id = $1 AND retention_class <> $2 AND ts >= $3 AND ts <= $4 AND (ts < $4 OR id <= $5)
    RETURNING {columns}
)
INSERT INTO events ({columns}) SELECT {moved} FROM gone ON CONFLICT DO NOTHING;

-- moved_columns(...)
-- What a moved row is: the same, in the class of the tier.
tenant_id, $2, ts, id, received_at, type, key_id, visitor, session, session_id, user_id, anonymous_id,
page_path, referrer_host, country, device, browser, os, method, status, duration_ms, bytes, is_bot, details,
metrics_revision;

-- drop_events(tenant_id, tier, first, last, last_id)
-- Drops a span of events that the tier does not keep.
DELETE FROM events
WHERE tenant_id = $1 AND retention_class <> $2 AND ts >= $3 AND ts <= $4 AND (ts < $4 OR id <= $5);

-- has_moved(tenant_id, moving_since)
-- Notes that all events stand in the tier's class, unless the tier has changed once more.
UPDATE tenants SET moving_since = NULL WHERE id = $1 AND moving_since = $2;
