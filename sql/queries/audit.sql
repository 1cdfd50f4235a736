-- The audit trail. In: an entry, within the transaction of what it tells; a filter. Out: entries of one tenant.

-- write_audit(tenant_id, actor, action, subject, diff, request_id)
-- Who changed what, in the transaction of the change; its place in the chain is given by the table.
INSERT INTO audit_log (tenant_id, actor, action, subject, diff, request_id) VALUES ($1, $2, $3, $4, $5::jsonb, $6);

-- list_entries(first, before_sequence, actor, action_prefix, subject, starts_at, ends_at)
-- A page of the tenant's entries, newest first, from a place on.
SELECT tenant_id, id, sequence, at, actor, action, subject, diff, request_id, previous_hash, hash FROM audit_log
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ($2::bigint IS NULL OR sequence < $2)
    AND ($3::text IS NULL OR actor = $3) AND ($4::text IS NULL OR starts_with(action, $4))
    AND ($5::text IS NULL OR subject = $5)
    AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::timestamptz IS NULL OR at < $7)
ORDER BY sequence DESC LIMIT $1;

-- count_entries(actor, action_prefix, subject, starts_at, ends_at)
-- How many there are of these.
SELECT count(*) AS entries FROM audit_log
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid)
    AND ($1::text IS NULL OR actor = $1) AND ($2::text IS NULL OR starts_with(action, $2))
    AND ($3::text IS NULL OR subject = $3)
    AND ($4::timestamptz IS NULL OR at >= $4) AND ($5::timestamptz IS NULL OR at < $5);

-- find_entries(ids)
-- Some of the tenant's entries.
SELECT tenant_id, id, sequence, at, actor, action, subject, diff, request_id, previous_hash, hash FROM audit_log
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND id = ANY($1::uuid[]);

-- lock_downloads(job)
-- One after the other look whether a link of this job has its entry, and write it.
SELECT pg_advisory_xact_lock(hashtextextended('export.download ' || $1::text, 0));

-- find_download(job, link_ends_at)
-- The entry of an export's link that was used.
SELECT sequence FROM audit_log
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND subject = $1 AND action = 'export.download'
    AND (diff ->> 'link_ends_at')::bigint = $2::bigint LIMIT 1;

-- next_entries(most, after_sequence, after_id)
-- The tenant's entries in the order of the chain; by their ids where two claim one place.
SELECT tenant_id, id, sequence, at, actor, action, subject, diff, request_id, previous_hash, hash FROM audit_log
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND (sequence, id) > ($2::bigint, $3::uuid)
ORDER BY sequence, id LIMIT $1;

-- entries_without_place()
-- Entries that are in no chain: there are none unless somebody took the table's conditions away.
SELECT id FROM audit_log
WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND sequence IS NULL ORDER BY id LIMIT 1000;

-- read_head()
-- Where the tenant's chain ends.
SELECT sequence, hash FROM audit_heads WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid);
