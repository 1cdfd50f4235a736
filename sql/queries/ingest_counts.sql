-- What became of events at the doors and in the workers. In: counts by minute of receipt. Out: nothing; series read them.

-- add_ingest_counts(tenant_ids, buckets, outcomes, reasons, key_ids, counts)
-- Adds to minutes and to their hours; each row once, in the order of their keys.
WITH added AS (
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::bigint[])
        AS a (tenant_id, bucket, outcome, reason, key_id, count)
), hours AS (
    INSERT INTO ingest_1h AS kept (tenant_id, outcome, bucket, reason, key_id, count)
    SELECT tenant_id, outcome, date_trunc('hour', bucket, 'UTC'), reason, key_id, sum(count) FROM added
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (tenant_id, outcome, bucket, reason, key_id) DO UPDATE SET count = kept.count + excluded.count
)
INSERT INTO ingest_1m AS kept (tenant_id, outcome, bucket, reason, key_id, count)
SELECT tenant_id, outcome, bucket, reason, key_id, count FROM added ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (tenant_id, outcome, bucket, reason, key_id) DO UPDATE SET count = kept.count + excluded.count;

-- forget_ingest_counts(tenant_ids, outcomes, before, most)
-- A bite of rows of {table} from before a moment.
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT t.ctid FROM unnest($1::uuid[]) AS tenant (id)
    CROSS JOIN unnest($2::text[]) AS part (outcome)
    CROSS JOIN LATERAL (
        SELECT c.ctid FROM {table} c
        WHERE c.tenant_id = tenant.id AND c.outcome = part.outcome AND c.bucket < $3
        LIMIT $4
    ) t
    LIMIT $4
));
