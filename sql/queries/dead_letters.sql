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
