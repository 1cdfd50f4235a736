-- Raw events for reading. In: a filter and a place to go on from. Out: rows, newest first.

-- list_events(first, before_ts, before_id, types, starts_at, ends_at, session_id, user_id, bots, anonymous_id, visitor, values)
-- A page of the tenant's events, newest first, from a (timestamp, id) on.
SELECT ts, id, received_at, type, visitor, session_id, user_id, anonymous_id, page_path, referrer_host, country, device,
    browser, os, method, status, duration_ms, bytes, is_bot, details
FROM events
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ($2::timestamptz IS NULL OR (ts, id) < ($2, $3::uuid))
    AND ($4::text[] IS NULL OR type = ANY($4))
    AND ($5::timestamptz IS NULL OR ts >= $5) AND ($6::timestamptz IS NULL OR ts < $6)
    AND ($7::text IS NULL OR session_id = $7) AND ($8::text IS NULL OR user_id = $8)
    AND is_bot = ANY($9::boolean[])
    AND ($10::text IS NULL OR anonymous_id = $10) AND ($11::bigint IS NULL OR visitor = $11)
    AND $12::text[] IS NOT NULL AND {conditions}
ORDER BY ts DESC, id DESC LIMIT $1;

-- find_events(timestamps, ids)
-- Events by their place.
SELECT ts, id, received_at, type, visitor, session_id, user_id, anonymous_id, page_path, referrer_host, country, device,
    browser, os, method, status, duration_ms, bytes, is_bot, details
FROM events
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND (ts, id) IN (SELECT * FROM unnest($1::timestamptz[], $2::uuid[]));

-- find_matching_events(timestamps, ids, anonymous_id, visitor, values)
-- Those of them for which the conditions hold, newest first.
SELECT ts, id, received_at, type, visitor, session_id, user_id, anonymous_id, page_path, referrer_host, country, device,
    browser, os, method, status, duration_ms, bytes, is_bot, details
FROM events
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND (ts, id) IN (SELECT * FROM unnest($1::timestamptz[], $2::uuid[]))
    AND ($3::text IS NULL OR anonymous_id = $3) AND ($4::bigint IS NULL OR visitor = $4)
    AND $5::text[] IS NOT NULL AND {conditions}
ORDER BY ts DESC, id DESC;
