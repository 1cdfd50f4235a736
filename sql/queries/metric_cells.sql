-- Cells of tenants' own metrics. In: events that are counted, live or later. Out: cells.

-- list_counted(tenant_ids, revisions)
-- The versions that count events of these revisions.
SELECT v.tenant_id, v.id, m.key, v.kind, v.definition::text AS definition
FROM unnest($1::uuid[], $2::integer[]) AS held (tenant_id, revision)
JOIN metric_versions v ON v.tenant_id = held.tenant_id AND v.counts_from <= held.revision
    AND (v.counts_until IS NULL OR v.counts_until > held.revision)
JOIN metrics m ON m.tenant_id = v.tenant_id AND m.id = v.metric_id
ORDER BY v.tenant_id, v.id;

-- read_cells(shard, tenant_ids, version_ids, dimensions, buckets, cell_values, is_bots)
-- The rows of {table} that these cells already have from this writer, each by its key.
SELECT c.tenant_id, c.version_id, c.dimension, extract(epoch FROM c.bucket)::bigint AS bucket, c.value, c.is_bot,
    r.count, r.matched, r.sum, r.min, r.max, r.uniques, r.quantiles
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::text[], $7::boolean[])
    AS c (tenant_id, version_id, dimension, bucket, value, is_bot)
CROSS JOIN LATERAL (
    SELECT * FROM {table} t WHERE t.tenant_id = c.tenant_id AND t.version_id = c.version_id
        AND t.dimension = c.dimension AND t.bucket = c.bucket AND t.value = c.value AND t.is_bot = c.is_bot
        AND t.shard = $1
    OFFSET 0
) r;

-- count_values(shard, tenant_ids, version_ids, dimensions, buckets, is_bots)
-- How many values this writer has of dimensions of hours.
SELECT c.tenant_id, c.version_id, c.dimension, extract(epoch FROM c.bucket)::bigint AS bucket, c.is_bot,
    (SELECT count(*) FROM metric_1h t WHERE t.tenant_id = c.tenant_id AND t.version_id = c.version_id
        AND t.dimension = c.dimension AND t.bucket = c.bucket AND t.is_bot = c.is_bot AND t.shard = $1) AS found
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::boolean[])
    AS c (tenant_id, version_id, dimension, bucket, is_bot);

-- write_cells(shard, tenant_ids, version_ids, dimensions, buckets, cell_values, is_bots, counts, matcheds, sums, mins, maxs, uniques, quantiles)
-- Whole values over whatever {table} had: a repeat overwrites, nothing is added twice.
INSERT INTO {table} (tenant_id, version_id, dimension, bucket, value, is_bot, shard, count, matched, sum, min, max,
    uniques, quantiles)
SELECT c.tenant_id, c.version_id, c.dimension, c.bucket, c.value, c.is_bot, $1, c.count, c.matched, c.sum, c.min, c.max,
    c.uniques, c.quantiles
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::text[], $7::boolean[], $8::bigint[],
    $9::bigint[], $10::numeric[], $11::float8[], $12::float8[], $13::bytea[], $14::bytea[])
    AS c (tenant_id, version_id, dimension, bucket, value, is_bot, count, matched, sum, min, max, uniques, quantiles)
ON CONFLICT (tenant_id, version_id, dimension, bucket, value, is_bot, shard) DO UPDATE SET
    count = excluded.count, matched = excluded.matched, sum = excluded.sum, min = excluded.min, max = excluded.max,
    uniques = excluded.uniques, quantiles = excluded.quantiles;

-- table_1m(...)
-- The table of one-minute cells.
metric_1m;

-- table_5m(...)
-- The table of five-minute cells.
metric_5m;

-- table_1h(...)
-- The table of hourly cells.
metric_1h;
