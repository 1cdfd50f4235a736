-- A metric's parts over time. In: a plan. Out: rows of (slot, labels, parts); what merges them is in query/.

-- from_rollup(edges, starts_at, ends_at, dimension, types, bots, filters)
-- Parts by bucket and group from {table}; `filters` is a JSON list that the fragments below take apart.
SELECT width_bucket(bucket, $1::timestamptz[]) - 1 AS slot, {labels} AS labels,
    sum(count)::bigint AS count, sum(errors)::bigint AS errors, sum(bytes)::numeric AS bytes,
    count(*)::bigint AS rows, {sketches} AS sketches
FROM {table}
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND bucket >= $2 AND bucket < $3 AND dimension = $4
    AND ($5::text[] IS NULL OR type = ANY($5)) AND is_bot = ANY($6::boolean[])
    AND $7::jsonb IS NOT NULL {conditions}
GROUP BY 1, 2;

-- from_raw(edges, starts_at, ends_at, dimension, types, bots, filters)
-- The same parts from raw events.
SELECT width_bucket(ts, $1::timestamptz[]) - 1 AS slot, {labels} AS labels,
    count(*)::bigint AS count, count(*) FILTER (WHERE status >= 500)::bigint AS errors,
    coalesce(sum(bytes), 0)::numeric AS bytes, count(*)::bigint AS rows, {sketches} AS sketches
FROM events
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ts >= $2 AND ts < $3 AND $4::text IS NOT NULL
    AND ($5::text[] IS NULL OR type = ANY($5)) AND is_bot = ANY($6::boolean[])
    AND $7::jsonb IS NOT NULL {conditions}
GROUP BY 1, 2;

-- from_ingest(edges, starts_at, ends_at, outcome, types, bots, filters)
-- Counts of what became of events, from {table}; they have neither types nor bots.
SELECT width_bucket(bucket, $1::timestamptz[]) - 1 AS slot, {labels} AS labels,
    sum(count)::bigint AS count, 0::bigint AS errors, 0::numeric AS bytes, count(*)::bigint AS rows, {sketches} AS sketches
FROM {table}
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND bucket >= $2 AND bucket < $3 AND outcome = $4
    AND $5::text[] IS NULL AND $6::boolean[] IS NOT NULL
    AND $7::jsonb IS NOT NULL {conditions}
GROUP BY 1, 2;

-- ingest_1m(...)
-- What became of events, by the minute.
ingest_1m;

-- ingest_1h(...)
-- What became of events, by the hour.
ingest_1h;

-- column_reason(...)
-- Why.
reason;

-- column_key(...)
-- By which key they came; '' where it is not known.
key_id;

-- table_1m(...)
-- One-minute rollups.
rollup_1m;

-- table_5m(...)
-- Five-minute rollups.
rollup_5m;

-- table_1h(...)
-- Hourly rollups.
rollup_1h;

-- no_sketches(...)
-- For metrics of counts and sums.
NULL::bytea[];

-- rollup_visitors(...)
-- HLL sketches of visitors.
array_agg(visitors) FILTER (WHERE visitors <> '');

-- rollup_sessions(...)
-- HLL sketches of sessions.
array_agg(sessions) FILTER (WHERE sessions <> '');

-- rollup_durations(...)
-- KLL sketches of durations.
array_agg(durations) FILTER (WHERE durations <> '');

-- raw_visitors(...)
-- The distinct hashes themselves.
array_agg(DISTINCT visitor);

-- raw_sessions(...)
-- The distinct hashes themselves.
array_agg(DISTINCT session) FILTER (WHERE session IS NOT NULL);

-- raw_durations(...)
-- The durations themselves.
array_agg(duration_ms) FILTER (WHERE duration_ms IS NOT NULL);

-- labels_of(...)
-- The group of a row, as text in the order asked for.
ARRAY[{columns}]::text[];

-- column_type(...)
-- The type, in rollups and raw events alike.
type;

-- column_value(...)
-- A rollup row's one dimension.
value;

-- column_status(...)
-- The status as text, '' where there is none.
coalesce(status::text, '');

-- column_of(...)
-- A text dimension of raw events; the name comes from the list of dimensions.
{name};

-- condition_eq(...)
-- One value.
AND {column} = ($7::jsonb -> {index} ->> 0);

-- condition_ne(...)
-- Any but one value.
AND {column} <> ($7::jsonb -> {index} ->> 0);

-- condition_in(...)
-- One of several values.
AND {column} = ANY(ARRAY(SELECT jsonb_array_elements_text($7::jsonb -> {index})));

-- condition_not_in(...)
-- None of several values.
AND NOT {column} = ANY(ARRAY(SELECT jsonb_array_elements_text($7::jsonb -> {index})));

-- condition_contains(...)
-- Holds a text, which is taken literally.
AND strpos({column}, $7::jsonb -> {index} ->> 0) > 0;

-- condition_prefix(...)
-- Begins with a text, which is taken literally.
AND starts_with({column}, $7::jsonb -> {index} ->> 0);

-- condition_gt(...)
-- A number above.
AND nullif({column}, '')::integer > ($7::jsonb -> {index} ->> 0)::integer;

-- condition_gte(...)
-- A number at or above.
AND nullif({column}, '')::integer >= ($7::jsonb -> {index} ->> 0)::integer;

-- condition_lt(...)
-- A number below.
AND nullif({column}, '')::integer < ($7::jsonb -> {index} ->> 0)::integer;

-- condition_lte(...)
-- A number at or below.
AND nullif({column}, '')::integer <= ($7::jsonb -> {index} ->> 0)::integer;
