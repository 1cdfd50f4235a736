-- What there is to ask for: properties that events have, and values. In: a search. Out: names or values with counts.

-- list_properties(starts_at, ends_at, types, scanned, sampled, bytes, depth, search, first)
-- Which properties a sample of the newest events has: those of the types among so many scanned ones.
WITH RECURSIVE sample AS MATERIALIZED (
    SELECT ts, properties FROM (
        SELECT ts, details -> 'properties' AS properties,
            sum(pg_column_size(details)) OVER (ORDER BY ts DESC, id DESC ROWS UNBOUNDED PRECEDING) AS bytes
        FROM (
            SELECT ts, id, type, details FROM events
            WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND ts >= $1 AND ts < $2
            ORDER BY ts DESC, id DESC LIMIT $4
        ) newest
        WHERE $3::text[] IS NULL OR type = ANY($3)
        ORDER BY ts DESC, id DESC LIMIT $5
    ) weighed WHERE bytes <= $6
), walk AS (
    SELECT ARRAY[key] AS path, value FROM sample, jsonb_each(properties)
    UNION ALL
    SELECT path || inner_one.key, inner_one.value
    FROM walk, jsonb_each(CASE WHEN jsonb_typeof(walk.value) = 'object' THEN walk.value ELSE '{}' END) inner_one
    WHERE cardinality(path) < $7
), found AS (
    SELECT path, sum(events)::bigint AS events, jsonb_object_agg(type, events) AS types
    FROM (SELECT path, jsonb_typeof(value) AS type, count(*) AS events FROM walk GROUP BY 1, 2) typed
    WHERE strpos(lower(array_to_string(path, '.')), lower($8)) > 0
    GROUP BY path ORDER BY 2 DESC, array_to_string(path, '.') COLLATE "C" LIMIT $9
)
SELECT NULL::text[] AS path, count(*)::bigint AS events, NULL::jsonb AS types, min(ts) AS oldest FROM sample
UNION ALL SELECT path, events, types, NULL FROM found;

-- top_of_sample(starts_at, ends_at, types, scanned, sampled, search, first, values)
-- The commonest values of a field in a sample of the newest events.
WITH sample AS MATERIALIZED (
    SELECT ts, left({text}, 1024) AS value FROM (
        SELECT * FROM events
        WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND ts >= $1 AND ts < $2
        ORDER BY ts DESC, id DESC LIMIT $4
    ) newest
    WHERE $3::text[] IS NULL OR type = ANY($3)
    LIMIT $5
)
SELECT NULL::text AS value, count(*)::bigint AS events, min(ts) AS oldest FROM sample
WHERE $8::text[] IS NOT NULL
UNION ALL
(SELECT value, count(*)::bigint, NULL FROM sample
WHERE value <> '' AND strpos(lower(value), lower($6)) > 0
GROUP BY value ORDER BY count(*) DESC, value COLLATE "C" LIMIT $7);

-- top_of_rollup(starts_at, ends_at, types, dimension, search, first)
-- The commonest values of a dimension, from counts by the hour.
WITH counted AS MATERIALIZED (
    SELECT {column} AS value, sum(count)::bigint AS events FROM rollup_1h
    WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
        AND bucket >= $1 AND bucket < $2 AND dimension = $4 AND ($3::text[] IS NULL OR type = ANY($3))
    GROUP BY 1
)
SELECT NULL::text AS value, coalesce(sum(events), 0)::bigint AS events, $1::timestamptz AS oldest FROM counted
UNION ALL
(SELECT value, events, NULL FROM counted
WHERE value <> '' AND strpos(lower(value), lower($5)) > 0
ORDER BY events DESC, value COLLATE "C" LIMIT $6);

-- value_of_type(...)
-- The type, which every rollup row has.
type;

-- value_of_dimension(...)
-- A rollup row's one dimension.
value;
