-- The end of a tenant: asked for, taken back, carried out, proved. In: a tenant. Out: its state, or the proof.

-- mark_ending(ends_at)
-- From when on the tenant's rows go; nothing when that was asked already.
UPDATE tenants SET ends_at = $1
WHERE id = (SELECT current_setting('app.current_tenant')::uuid) AND ends_at IS NULL AND erasing_since IS NULL
RETURNING ends_at;

-- unmark_ending()
-- Takes it back, while nothing has gone yet.
UPDATE tenants SET ends_at = NULL
WHERE id = (SELECT current_setting('app.current_tenant')::uuid) AND ends_at IS NOT NULL AND erasing_since IS NULL
RETURNING id;

-- read_ending()
-- Whether the tenant is to be deleted, and whether that has begun; no row when it is gone.
SELECT ends_at, erasing_since FROM tenants WHERE id = (SELECT current_setting('app.current_tenant')::uuid);

-- begin_erasure(tenant_id, asked_by, asked_at)
-- The point of no return; false when the tenant is gone already.
SELECT maintenance.begin_erasure($1, $2, $3) AS is_there;

-- last_transaction()
-- The number that the next transaction gets.
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS number;

-- oldest_transaction()
-- The number of the oldest transaction that is still at work.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS number;

-- list_tables()
-- The tables of tenants, those that refer to others before these.
SELECT name, keys, types FROM maintenance.tables_of_tenants();

-- erase_rows(tenant_id, name, most)
-- A bite of a table's rows; -1 while others refer to them.
SELECT maintenance.erase_rows($1, $2, $3) AS removed;

-- finish_erasure(tenant_id)
-- The rest, and the tenant itself.
SELECT maintenance.finish_erasure($1) AS remaining;

-- sweep_erased(tenant_id)
-- Rows that came in late.
SELECT maintenance.sweep_erased($1) AS removed;

-- erase_people(tenant_id)
-- People who belonged to that tenant alone.
SELECT maintenance.erase_people($1) AS removed;

-- list_keys()
-- The ids of a tenant's API keys: their buckets are named after them.
SELECT id FROM api_keys WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid);

-- list_updates()
-- What the aggregate workers said last, which names tenants; the rows are held.
SELECT consumer, topic, partition, last_update FROM log_offsets WHERE last_update <> '' FOR UPDATE;

-- replace_update(consumer, topic, partition, last_update)
-- The same without an erased tenant.
UPDATE log_offsets SET last_update = $4 WHERE consumer = $1 AND topic = $2 AND partition = $3;

-- note_others(tenant_id, others)
-- What was removed beside rows.
UPDATE tenant_erasures SET others = $2::jsonb WHERE id = $1;

-- list_erasures(slug)
-- The proofs of a slug, or (null) of all, newest first.
SELECT * FROM tenant_erasures WHERE $1::text IS NULL OR slug = $1 ORDER BY began_at DESC;

-- list_recent(since)
-- Tenants that went since a moment and are to be swept again: often at first, then once an hour.
SELECT id FROM tenant_erasures
WHERE ended_at >= $1 AND (swept_at IS NULL OR ended_at > now() - interval '10 minutes'
    OR swept_at < now() - interval '1 hour');

-- find_others(tenant_id)
-- What the proof says was removed beside rows; held until it is written anew.
SELECT others FROM tenant_erasures WHERE id = $1 FOR UPDATE;

-- find_erased(tenant_ids)
-- Which of these are going or gone: nothing of theirs is kept any more.
SELECT id FROM tenant_erasures WHERE id = ANY($1::uuid[]);
