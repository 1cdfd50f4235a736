-- What is past its time. In: a class or tenants, and a moment. Out: what went.

-- drop_partitions(retention_class, before)
-- The partitions or chunks of a class that end before a moment, dropped; their names.
SELECT maintenance.drop_event_partitions($1, $2) AS name;

-- list_tenants()
-- Whose rollups may be past their time.
SELECT id, tier FROM tenants;

-- forget_rollups(tenant_ids, dimensions, before, most)
-- A bite of rows of {table} from before a moment; each tenant and dimension is a range of the key.
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT t.ctid FROM unnest($1::uuid[]) AS tenant (id)
    CROSS JOIN unnest($2::text[]) AS part (dimension)
    CROSS JOIN LATERAL (
        SELECT r.ctid FROM {table} r
        WHERE r.tenant_id = tenant.id AND r.dimension = part.dimension AND r.bucket < $3
        LIMIT $4
    ) t
    LIMIT $4
));
