-- Counting earlier events for a new version of a metric. In: a version. Out: its events, and how far it is.

-- ask_backfills()
-- A job for each version that waits for its earlier events, unless one is open or has just ended.
INSERT INTO jobs (tenant_id, kind, arguments, asked_by)
SELECT v.tenant_id, 'backfill_metric',
    jsonb_build_object('version_id', v.id, 'metric_id', v.metric_id, 'version', v.version), v.created_by
FROM metric_versions v
WHERE v.ready_at IS NULL AND v.counts_until IS NULL AND v.kind <> 'FORMULA' AND NOT EXISTS (
    SELECT FROM jobs j
    WHERE j.tenant_id = v.tenant_id AND j.kind = 'backfill_metric' AND j.arguments ->> 'version_id' = v.id::text
        AND (j.state IN ('waiting', 'running') OR j.ended_at > now() - interval '10 minutes')
)
ON CONFLICT DO NOTHING;

-- lock_version(tenant_id, version_id)
-- A version whose backfill is not done, held until the end, so that one worker moves its place.
SELECT v.tenant_id, v.id, m.key, v.kind, v.definition::text AS definition, v.counts_from, v.backfill_from,
    v.backfill_until, v.backfill_ts, v.backfill_id
FROM metric_versions v JOIN metrics m ON m.tenant_id = v.tenant_id AND m.id = v.metric_id
WHERE v.tenant_id = $1 AND v.id = $2 AND v.ready_at IS NULL AND v.counts_until IS NULL
FOR UPDATE OF v;

-- find_span(tenant_id, counts_from)
-- The times of the first and the last event from before a revision; none has come since.
SELECT (SELECT ts FROM events WHERE tenant_id = $1 AND metrics_revision < $2 ORDER BY ts LIMIT 1) AS first,
    (SELECT ts FROM events WHERE tenant_id = $1 AND metrics_revision < $2 ORDER BY ts DESC LIMIT 1) AS last;

-- next_events(tenant_id, counts_from, after_ts, after_id, until, most)
-- The next so many events behind a place; those of a later revision are passed over by whoever reads, so that a bite
-- is never more than so many rows.
SELECT ts, id, (extract(epoch FROM ts) * 1000)::bigint AS timestamp_ms, type, visitor, session, page_path, referrer_host,
    country, device, browser, os, status, method, duration_ms, bytes, is_bot,
    CASE WHEN metrics_revision < $2 THEN (details -> 'properties')::text END AS properties
FROM events
WHERE tenant_id = $1 AND ts >= $3 AND ts <= $5 AND (ts, id) > ($3, $4)
ORDER BY ts, id LIMIT $6;

-- move_backfill(tenant_id, version_id, from, until, ts, id, backfilled, is_done)
-- Moves the place behind what was counted.
UPDATE metric_versions SET backfill_from = $3, backfill_until = $4, backfill_ts = $5, backfill_id = $6,
    backfilled = $7, ready_at = CASE WHEN $8 THEN now() END
WHERE tenant_id = $1 AND id = $2;

-- forget_metric_cells(before, most, tenant_ids)
-- A bite of cells of {table} from before a moment.
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT t.ctid FROM metric_versions v
    CROSS JOIN LATERAL (
        SELECT c.ctid FROM {table} c
        WHERE c.tenant_id = v.tenant_id AND c.version_id = v.id AND c.bucket < $1 LIMIT $2
    ) t
    WHERE v.tenant_id = ANY($3::uuid[]) LIMIT $2
));

-- forget_ended_versions(before, most)
-- A bite of cells of {table} whose version ended before a moment: nobody asks for it any more.
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT t.ctid FROM metric_versions v
    JOIN metrics m ON m.tenant_id = v.tenant_id AND m.id = v.metric_id AND m.updated_at < $1
    CROSS JOIN LATERAL (
        SELECT c.ctid FROM {table} c WHERE c.tenant_id = v.tenant_id AND c.version_id = v.id LIMIT $2
    ) t
    WHERE v.counts_until IS NOT NULL LIMIT $2
));
