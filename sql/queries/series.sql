-- A metric's parts over time. In: a plan's pieces. Out: rows of (slot, labels, parts); what merges them is in query/.
-- Conditions are those of conditions.sql; their values are the parameter `texts`.

-- from_rollup(edges, starts, ends, bots, texts, dimension, types, most_rows)
-- Parts of built-in metrics by bucket and group.
SELECT width_bucket(bucket, $1::timestamptz[]) - 1 AS slot, {labels} AS labels, {overflow} AS is_overflow,
    sum(count)::bigint AS count, sum(errors)::bigint AS matched, sum(bytes)::numeric AS sum,
    NULL::double precision AS least, NULL::double precision AS most, count(*)::bigint AS rows, {collected} AS collected
FROM {stored}
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND {within} AND is_bot = ANY($4::boolean[])
    AND $5::text[] IS NOT NULL AND dimension = $6 AND ($7::text[] IS NULL OR type = ANY($7)) AND {conditions}
GROUP BY 1, 2, 3 LIMIT $8::bigint;

-- from_metric(edges, starts, ends, bots, texts, version_id, dimension, most_rows)
-- The same of a tenant's own metric.
SELECT width_bucket(bucket, $1::timestamptz[]) - 1 AS slot, {labels} AS labels, {overflow} AS is_overflow,
    sum(count)::bigint AS count, sum(matched)::bigint AS matched, sum(sum)::numeric AS sum,
    min(min) AS least, max(max) AS most, count(*)::bigint AS rows, {collected} AS collected
FROM {stored}
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND {within} AND is_bot = ANY($4::boolean[])
    AND $5::text[] IS NOT NULL AND version_id = $6::uuid AND dimension = $7 AND {conditions}
GROUP BY 1, 2, 3 LIMIT $8::bigint;

-- from_ingest(edges, starts, ends, bots, texts, outcome, most_rows)
-- Counts of what became of events; they have neither types nor bots.
SELECT width_bucket(bucket, $1::timestamptz[]) - 1 AS slot, {labels} AS labels, {overflow} AS is_overflow,
    sum(count)::bigint AS count, 0::bigint AS matched, 0::numeric AS sum,
    NULL::double precision AS least, NULL::double precision AS most, count(*)::bigint AS rows, {collected} AS collected
FROM {stored}
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND {within} AND $4::boolean[] IS NOT NULL
    AND $5::text[] IS NOT NULL AND outcome = $6 AND {conditions}
GROUP BY 1, 2, 3 LIMIT $7::bigint;

-- from_raw(edges, starts, ends, bots, texts, types, most_rows)
-- The same parts from raw events.
SELECT width_bucket(ts, $1::timestamptz[]) - 1 AS slot, labels, false AS is_overflow,
    count(*)::bigint AS count, {matched} AS matched, {sum} AS sum, {least} AS least, {most} AS most,
    count(*)::bigint AS rows, {collected} AS collected
FROM (
    SELECT ts, {labels} AS labels, {number} AS number, {is_matched} AS is_matched, {single} AS single
    FROM {stored}
    WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND {within}
        AND is_bot = ANY($4::boolean[]) AND $5::text[] IS NOT NULL
        AND ($6::text[] IS NULL OR type = ANY($6)) AND {conditions} {bound}
) AS chosen
GROUP BY 1, 2, 3 LIMIT $7::bigint;

-- explained(...)
-- What the database expects of a statement, which is not run.
EXPLAIN (FORMAT JSON) {statement};

-- one_piece(...)
-- Where one piece is read.
{table};

-- many_pieces(...)
-- Where several pieces are read, one after the other.
unnest($2::timestamptz[], $3::timestamptz[]) AS piece (starts_at, ends_at), {table};

-- within_one(...)
-- What lies within the one piece.
{at} >= ($2::timestamptz[])[1] AND {at} < ($3::timestamptz[])[1];

-- within_many(...)
-- What lies within a piece.
{at} >= starts_at AND {at} < ends_at;

-- rollup_1m(...)
-- Of built-in metrics, by the minute.
rollup_1m;

-- rollup_5m(...)
-- Of built-in metrics, by the five minutes.
rollup_5m;

-- rollup_1h(...)
-- Of built-in metrics, by the hour.
rollup_1h;

-- metric_1m(...)
-- Of tenants' own metrics, by the minute.
metric_1m;

-- metric_5m(...)
-- Of tenants' own metrics, by the five minutes.
metric_5m;

-- metric_1h(...)
-- Of tenants' own metrics, by the hour.
metric_1h;

-- ingest_1m(...)
-- Of what became of events, by the minute.
ingest_1m;

-- ingest_1h(...)
-- Of what became of events, by the hour.
ingest_1h;

-- events(...)
-- Raw events.
events;

-- at_bucket(...)
-- When a stored bucket begins.
bucket;

-- at_ts(...)
-- When an event was.
ts;

-- labels_of(...)
-- The group of a row, as text in the order asked for.
ARRAY[{columns}]::text[];

-- column_type(...)
-- The type of a rollup row.
type;

-- column_value(...)
-- A rollup row's one dimension.
value;

-- column_of_value(...)
-- One of the dimensions that a rollup row's value is made of.
CASE WHEN value = '__other__' THEN value ELSE value::jsonb ->> {index} END;

-- column_reason(...)
-- Why.
reason;

-- column_key(...)
-- By which key they came; '' where it is not known.
key_id;

-- shortened(...)
-- As much of a property's text as tells values of a dimension apart.
left({text}, {length});

-- status_number(...)
-- The status of a rollup row.
nullif({text}, '')::numeric;

-- overflow_of(...)
-- Whether a row is of values that had no room in their hour.
value = '__other__';

-- never(...)
-- Where no row is.
false;

-- or_overflow(...)
-- Rows that have no value of their own are read too, to tell that they are there.
({conditions} OR value = '__other__');

-- no_sketches(...)
-- For metrics of counts and sums.
NULL::bytea[];

-- sketches_of(...)
-- The sketches of a column.
array_agg({column}) FILTER (WHERE {column} <> '');

-- singles(...)
-- The distinct hashes or texts themselves.
array_agg(DISTINCT single) FILTER (WHERE single IS NOT NULL);

-- numbers(...)
-- The numbers themselves.
array_agg(number::double precision) FILTER (WHERE number IS NOT NULL);

-- column_bytes(...)
-- Bytes of an event.
bytes;

-- column_duration(...)
-- Milliseconds of an event.
duration_ms;

-- column_visitor(...)
-- Whose an event is.
visitor;

-- column_session(...)
-- In which session it is.
session;

-- not_empty(...)
-- A text that is a value; what is missing is none.
nullif({text}, '');

-- counted_number(...)
-- A number as it counts: up to 15 digits before the point and 9 after it; see core/metric_cells.py.
CASE WHEN abs({number}) < 1e15 THEN round({number}, 9) END;

-- is_error(...)
-- What is above the line of error_rate.
coalesce(status >= 500, false);

-- no_number(...)
-- Of metrics that take none.
NULL::numeric;

-- no_single(...)
-- Of metrics that tell nothing apart.
NULL::bigint;

-- count_matched(...)
-- Events above a ratio's line.
count(*) FILTER (WHERE is_matched)::bigint;

-- count_numbers(...)
-- Events that had a number.
count(number)::bigint;

-- sum_of_numbers(...)
-- Their sum.
coalesce(sum(number), 0)::numeric;

-- least_number(...)
-- The least of them.
min(number)::double precision;

-- greatest_number(...)
-- The greatest of them.
max(number)::double precision;

-- zero_count(...)
-- Where nothing is counted.
0::bigint;

-- zero_sum(...)
-- Where nothing is added.
0::numeric;

-- no_extreme(...)
-- Where neither the least nor the greatest is asked for.
NULL::double precision;

-- bound_values(...)
-- No more values than a process may hold are taken out; one more tells that there are more.
LIMIT {most};
