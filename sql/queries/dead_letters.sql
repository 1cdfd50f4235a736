-- What was put aside. In: a place in the log, or a tenant. Out: letters, newest first.

-- list_letters(tenant_id, most)
-- The newest letters, of one tenant or (null) of all; bytes by their number only.
SELECT tenant_id, topic, partition, "offset", worker, reason, created_at, length(value) AS size
FROM dead_letters WHERE $1::uuid IS NULL OR tenant_id = $1
ORDER BY created_at DESC, topic, partition, "offset" LIMIT $2;

-- find_letter(topic, partition, dead_offset, worker)
-- One letter with its bytes.
SELECT tenant_id, topic, partition, "offset", worker, reason, created_at, value
FROM dead_letters WHERE topic = $1 AND partition = $2 AND "offset" = $3 AND worker = $4;

-- drop_letter(topic, partition, dead_offset, worker)
-- The end of one.
DELETE FROM dead_letters WHERE topic = $1 AND partition = $2 AND "offset" = $3 AND worker = $4;

-- list_own_letters(first, before_at, before_topic, before_partition, before_offset, before_worker, preview_bytes)
-- A page of the tenant's letters, newest first, from a place on; of their bytes the beginning.
SELECT topic, partition, "offset", worker, reason, created_at, length(value) AS size,
    substring(value FROM 1 FOR $7) AS beginning
FROM dead_letters
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ($2::timestamptz IS NULL
        OR (created_at, topic, partition, "offset", worker) < ($2, $3::text, $4::integer, $5::text, $6::text))
ORDER BY created_at DESC, topic DESC, partition DESC, "offset" DESC, worker DESC LIMIT $1;

-- find_own_letters(topics, partitions, offsets, workers, preview_bytes)
-- Some of the tenant's letters by their places.
SELECT topic, partition, "offset", worker, reason, created_at, length(value) AS size,
    substring(value FROM 1 FOR $5) AS beginning
FROM dead_letters
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND (topic, partition, "offset", worker) IN (SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[]));

-- own_letter_bytes(topic, partition, dead_offset, worker)
-- The bytes of one of the tenant's letters.
SELECT value FROM dead_letters
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND topic = $1 AND partition = $2 AND "offset" = $3 AND worker = $4;

-- drop_own_letter(topic, partition, dead_offset, worker)
-- The end of one of the tenant's; no row when it was gone.
DELETE FROM dead_letters
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND topic = $1 AND partition = $2 AND "offset" = $3 AND worker = $4
RETURNING worker;
