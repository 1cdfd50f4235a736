-- Sessions of visitors. In: a range, and what around it is read for sessions that reach over its ends. Out: what they
-- amount to, or a page of them.

-- sum_sessions(starts_at, ends_at, reads_from, reads_to, bots, values, edges, limit)
-- All sessions that began within the range, those of each bucket, and where they entered and left.
WITH made AS MATERIALIZED (
    SELECT session, min(ts) AS began, count(*) FILTER (WHERE session IS NOT NULL OR (ts >= $1 AND ts < $2)) AS events,
        extract(epoch FROM max(ts) - min(ts))::double precision AS seconds,
        array_agg(page_path ORDER BY ts, id) FILTER (WHERE page_path <> '' AND session IS NOT NULL) AS pages
    FROM events
    WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
        AND ts >= $3 AND ts < $4 AND is_bot = ANY($5::boolean[]) AND $6::text[] IS NOT NULL AND {conditions}
    GROUP BY session HAVING session IS NULL OR (min(ts) >= $1 AND min(ts) < $2 AND {chosen})
), measured AS MATERIALIZED (
    SELECT width_bucket(began, $7::timestamptz[]) - 1 AS slot, events, seconds,
        coalesce(pages[1], '') AS entry, coalesce(pages[cardinality(pages)], '') AS exit
    FROM made WHERE session IS NOT NULL
)
SELECT CASE WHEN grouping(slot) = 1 THEN 'total' ELSE 'bucket' END AS part, slot, NULL::text AS page,
    count(*)::bigint AS sessions, coalesce(sum(events), 0)::bigint AS events,
    count(*) FILTER (WHERE events = 1)::bigint AS bounces, coalesce(sum(seconds), 0) AS seconds,
    percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY seconds) AS percentiles
FROM measured GROUP BY GROUPING SETS ((), (slot))
UNION ALL
(SELECT 'entry', NULL, entry, count(*), sum(events)::bigint, count(*) FILTER (WHERE events = 1), sum(seconds), NULL
FROM measured GROUP BY entry ORDER BY count(*) DESC, entry COLLATE "C" LIMIT $8)
UNION ALL
(SELECT 'exit', NULL, exit, count(*), sum(events)::bigint, count(*) FILTER (WHERE events = 1), sum(seconds), NULL
FROM measured GROUP BY exit ORDER BY count(*) DESC, exit COLLATE "C" LIMIT $8)
UNION ALL
SELECT 'stray', NULL, NULL, 0, coalesce(sum(events), 0)::bigint, 0, 0, NULL FROM made WHERE session IS NULL;

-- list_visitor_sessions(starts_at, ends_at, reads_from, reads_to, bots, values, first, before_ts, before_session)
-- A page of sessions that began within the range, newest first, each with what its first event says of the visitor.
SELECT page.*, f.session_id, f.visitor, f.user_id, f.anonymous_id, f.referrer_host, f.country, f.device, f.browser, f.os
FROM (
    SELECT session, min(ts) AS began, max(ts) AS ended, count(*)::bigint AS events,
        coalesce((array_agg(page_path ORDER BY ts, id) FILTER (WHERE page_path <> ''))[1], '') AS entry,
        coalesce((array_agg(page_path ORDER BY ts DESC, id DESC) FILTER (WHERE page_path <> ''))[1], '') AS exit
    FROM events
    WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND session IS NOT NULL
        AND ts >= $3 AND ts < $4 AND is_bot = ANY($5::boolean[]) AND $6::text[] IS NOT NULL AND {conditions}
    GROUP BY session HAVING min(ts) >= $1 AND min(ts) < $2 AND {chosen}
        AND ($8::timestamptz IS NULL OR (min(ts), session) < ($8, $9::bigint))
    ORDER BY min(ts) DESC, session DESC LIMIT $7
) page CROSS JOIN LATERAL (
    SELECT session_id, visitor, user_id, anonymous_id, referrer_host, country, device, browser, os FROM events
    WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
        AND ts = page.began AND session = page.session AND is_bot = ANY($5::boolean[]) AND {conditions}
    ORDER BY id LIMIT 1
) f ORDER BY page.began DESC, page.session DESC;

-- having_event(...)
-- Sessions with such an event.
bool_or({conditions});

-- any_session(...)
-- Whatever happened in it.
true;
