-- The aggregate worker's one transaction. In: enriched batches. Out: raw events, ledger, rollups, usage, offset.

-- staging_tables()
-- Where a batch lands by COPY before the keys decide what is new (`place` is a row's number in the batch), and where
-- changed rollup rows do (`resolution` is 1m, 5m or 1h).
CREATE TEMP TABLE IF NOT EXISTS staged_events (LIKE events INCLUDING DEFAULTS, place integer NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_rollups (LIKE rollup_1m, resolution text NOT NULL) ON COMMIT DELETE ROWS;

-- read_offset(consumer, topic, partition)
-- Where the worker stands, and the update it made last.
SELECT next_offset, last_update FROM log_offsets WHERE consumer = $1 AND topic = $2 AND partition = $3;

-- lock_offset(consumer, topic, partition, next_offset)
-- The fence: where the partition stands (at the given offset, when nobody was there before). Holds the row until the
-- end, so that a second worker on this partition waits and then sees it moved.
INSERT INTO log_offsets AS kept (consumer, topic, partition, next_offset) VALUES ($1, $2, $3, $4)
ON CONFLICT (consumer, topic, partition) DO UPDATE SET next_offset = kept.next_offset
RETURNING next_offset;

-- move_offset(consumer, topic, partition, expected, next_offset, last_update)
-- Moves the offset from where it was expected; no row means another worker was here.
UPDATE log_offsets SET next_offset = $5, last_update = $6, updated_at = now()
WHERE consumer = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
RETURNING next_offset;

-- ensure_partition(retention_class, day)
-- The table for a day, made when it is missing.
SELECT maintenance.ensure_event_partition($1, $2);

-- event_columns(...)
-- What a row of events is, in the order in which the worker writes it.
tenant_id, retention_class, ts, id, received_at, type, key_id, visitor, session, session_id, user_id, anonymous_id,
page_path, referrer_host, country, device, browser, os, method, status, duration_ms, bytes, is_bot, details,
metrics_revision;

-- roll_back()
-- Not all staged events were new: as if none had been inserted.
ROLLBACK TO SAVEPOINT before_events;

-- insert_all_events()
-- Keeps all staged events; fails when the ledger or the raw table has seen one.
-- The ledger is first, in the order of its key: two workers that meet the same events wait for each other only there.
SAVEPOINT before_events;
INSERT INTO event_ids (tenant_id, event_id, received_on)
SELECT tenant_id, id, (received_at AT TIME ZONE 'UTC')::date FROM staged_events ORDER BY tenant_id, id;
INSERT INTO events ({columns}) SELECT {columns} FROM staged_events;

-- insert_new_events()
-- Keeps staged events that neither the ledger (7 days) nor the raw table has seen; gives the places of the others.
WITH fresh AS (
    INSERT INTO event_ids (tenant_id, event_id, received_on)
    SELECT tenant_id, id, (received_at AT TIME ZONE 'UTC')::date FROM staged_events ORDER BY tenant_id, id
    ON CONFLICT DO NOTHING
    RETURNING tenant_id AS of_tenant, event_id
), kept AS (
    INSERT INTO events ({columns})
    SELECT {columns} FROM staged_events JOIN fresh ON of_tenant = tenant_id AND event_id = id {unless_kept}
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, id
)
SELECT s.place FROM staged_events s LEFT JOIN kept k ON k.tenant_id = s.tenant_id AND k.id = s.id
WHERE k.id IS NULL;

-- hold_tiers(tenant_ids)
-- The tiers and metrics revisions of tenants, which stay as they are until the end; whether events of a former tier's
-- class are under way.
SELECT tenant_id, tier, is_moving, metrics_revision FROM maintenance.hold_tiers($1);

-- unless_kept(...)
-- While a tenant's events move between classes, the key of one class does not speak for the others (a count, since the
-- planner turns no count into a join of whole tables).
WHERE (SELECT count(*) FROM (
    SELECT FROM events e
    WHERE e.tenant_id = staged_events.tenant_id AND e.ts = staged_events.ts AND e.id = staged_events.id LIMIT 1
) known) = 0;

-- read_cells(shard, tenant_ids, dimensions, buckets, types, cell_values, is_bots)
-- The rows of {table} that these cells already have from this writer; each by its key, however large the table is
-- (OFFSET 0 keeps the planner from joining the whole of it).
SELECT c.tenant_id, c.dimension, extract(epoch FROM c.bucket)::bigint AS bucket, c.type, c.value, c.is_bot,
    r.count, r.errors, r.bytes, r.duration_count, r.duration_sum, r.duration_min, r.duration_max,
    r.visitors, r.sessions, r.durations
FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::boolean[])
    AS c (tenant_id, dimension, bucket, type, value, is_bot)
CROSS JOIN LATERAL (
    SELECT * FROM {table} t WHERE t.tenant_id = c.tenant_id AND t.dimension = c.dimension AND t.bucket = c.bucket
        AND t.type = c.type AND t.value = c.value AND t.is_bot = c.is_bot AND t.shard = $1
    OFFSET 0
) r;

-- count_values(shard, tenant_ids, dimensions, buckets, types, is_bots)
-- How many values this writer has of dimensions of hours.
SELECT c.tenant_id, c.dimension, extract(epoch FROM c.bucket)::bigint AS bucket, c.type, c.is_bot,
    (SELECT count(*) FROM rollup_1h t WHERE t.tenant_id = c.tenant_id AND t.dimension = c.dimension
        AND t.bucket = c.bucket AND t.type = c.type AND t.is_bot = c.is_bot AND t.shard = $1) AS found
FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::boolean[])
    AS c (tenant_id, dimension, bucket, type, is_bot);

-- write_cells()
-- Whole values of the staged rows of {resolution} over whatever {table} had: a repeat overwrites, nothing is added twice.
INSERT INTO {table} (tenant_id, dimension, bucket, type, value, is_bot, shard, count, errors, bytes,
    duration_count, duration_sum, duration_min, duration_max, visitors, sessions, durations)
SELECT tenant_id, dimension, bucket, type, value, is_bot, shard, count, errors, bytes,
    duration_count, duration_sum, duration_min, duration_max, visitors, sessions, durations
FROM staged_rollups WHERE resolution = '{resolution}'
ON CONFLICT (tenant_id, dimension, bucket, type, value, is_bot, shard) DO UPDATE SET
    count = excluded.count, errors = excluded.errors, bytes = excluded.bytes,
    duration_count = excluded.duration_count, duration_sum = excluded.duration_sum,
    duration_min = excluded.duration_min, duration_max = excluded.duration_max,
    visitors = excluded.visitors, sessions = excluded.sessions, durations = excluded.durations;

-- table_1m(...)
-- The table of one-minute rollups.
rollup_1m;

-- table_5m(...)
-- The table of five-minute rollups.
rollup_5m;

-- table_1h(...)
-- The table of hourly rollups.
rollup_1h;

-- add_usage(tenant_ids, days, key_ids, accepted, duplicates)
-- Counts what was new, and what was not, by day of receipt and key.
INSERT INTO daily_usage (tenant_id, day, key_id, accepted, duplicates)
SELECT * FROM unnest($1::uuid[], $2::date[], $3::text[], $4::bigint[], $5::bigint[])
ON CONFLICT (tenant_id, day, key_id) DO UPDATE SET
    accepted = daily_usage.accepted + excluded.accepted, duplicates = daily_usage.duplicates + excluded.duplicates;

-- forget_ids(before_day)
-- Ends the ledger's seven days.
DELETE FROM event_ids WHERE received_on < $1;

-- keep_dead_letter(tenant_id, topic, partition, dead_offset, worker, reason, value)
-- A record that can never be processed: its bytes, where it stood, and why.
INSERT INTO dead_letters (tenant_id, topic, partition, "offset", worker, reason, value)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING RETURNING tenant_id;

-- list_retention_classes()
-- The classes that have a tenant.
SELECT DISTINCT tier AS retention_class FROM tenants;

-- list_spread_tenants()
-- The tenants whose records are spread over several partitions.
SELECT id, sub_keys FROM tenants WHERE sub_keys > 1;

-- hot_cells(since)
-- All one-minute totals since a moment, for rebuilding the hot sets.
SELECT tenant_id, dimension, extract(epoch FROM bucket)::bigint AS bucket, type, value, is_bot, shard,
    count, errors, bytes, duration_count, duration_sum, duration_min, duration_max, visitors, sessions, durations
FROM rollup_1m WHERE dimension = '' AND bucket >= $1 ORDER BY tenant_id, shard, type, bucket;
