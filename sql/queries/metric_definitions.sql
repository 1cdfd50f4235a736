-- Metrics that a tenant defines. In: definitions. Out: versions.

-- hold_counting(tenant_id)
-- Waits for the transactions that count this tenant's events, and holds others off until the end.
SELECT pg_advisory_xact_lock(hashtext('maintenance.hold_tiers'), hashtext($1::uuid::text));

-- raise_metrics_revision(tenant_id)
-- Events that are counted from now on bear the new revision; after hold_counting, in the same transaction.
UPDATE tenants SET metrics_revision = metrics_revision + 1 WHERE id = $1 RETURNING metrics_revision;

-- list_definitions(tenant_id)
-- The version that answers for each metric that is not archived, and the tenant's revision in each row.
SELECT t.metrics_revision, m.id AS metric_id, m.key, m.kind, m.unit, m.description, m.version, v.id AS version_id,
    v.definition::text AS definition, v.counts_from, v.ready_at, v.backfilled
FROM tenants t
LEFT JOIN metrics m ON m.tenant_id = t.id AND m.archived_at IS NULL
LEFT JOIN metric_versions v ON v.tenant_id = m.tenant_id AND v.metric_id = m.id AND v.version = m.version
WHERE t.id = $1
ORDER BY m.key;

-- columns(...)
-- A metric with the version that answers.
m.id AS metric_id, m.key, m.kind, m.unit, m.description, m.owner, m.version, m.revision, m.created_at, m.created_by,
    m.updated_at, m.updated_by, m.archived_at, v.id AS version_id, v.definition::text AS definition, v.counts_from,
    v.ready_at, v.backfilled

-- list_metrics(is_archived)
-- Those of the transaction's tenant by key, archived or not; there are few.
SELECT {columns} FROM metrics m
JOIN metric_versions v ON v.tenant_id = m.tenant_id AND v.metric_id = m.id AND v.version = m.version
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND (m.archived_at IS NOT NULL) = $1::boolean
ORDER BY m.key;

-- find_metrics(ids)
-- Some by their ids, archived ones too.
SELECT {columns} FROM metrics m
JOIN metric_versions v ON v.tenant_id = m.tenant_id AND v.metric_id = m.id AND v.version = m.version
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND m.id = ANY($1::uuid[]);

-- find_keys(keys)
-- Some by their keys, archived ones too.
SELECT {columns} FROM metrics m
JOIN metric_versions v ON v.tenant_id = m.tenant_id AND v.metric_id = m.id AND v.version = m.version
WHERE m.tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND m.key = ANY($1::text[]);

-- list_versions(metric_ids, most)
-- The newest versions of each.
SELECT v.metric_id, v.version, v.kind, v.definition::text AS definition, v.ready_at, v.backfilled, v.created_at,
    v.created_by
FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT * FROM metric_versions
    WHERE tenant_id = (SELECT current_setting('app.current_tenant')::uuid) AND metric_id = wanted.id
    ORDER BY version DESC LIMIT $2
) v ORDER BY v.metric_id, v.version DESC;

-- count_made(day_seconds)
-- How many live metrics the tenant has, how many with the archived, how many versions it made of late, and in how many
-- seconds the first of these is no longer of late.
SELECT (SELECT count(*) FROM metrics WHERE tenant_id = current_setting('app.current_tenant')::uuid
        AND archived_at IS NULL) AS live,
    (SELECT count(*) FROM metrics WHERE tenant_id = current_setting('app.current_tenant')::uuid) AS all_of_them,
    count(*) AS versions,
    coalesce(extract(epoch FROM min(created_at) + make_interval(secs => $1::float8) - now()), 0)::float8 AS free_in
FROM metric_versions
WHERE tenant_id = current_setting('app.current_tenant')::uuid
    AND created_at > now() - make_interval(secs => $1::float8);

-- insert_metric(id, key, kind, unit, description, owner, actor)
-- A new one; nothing when the key is taken.
INSERT INTO metrics (tenant_id, id, key, kind, unit, description, owner, created_by, updated_by)
VALUES (current_setting('app.current_tenant')::uuid, $1, $2, $3, $4, $5, $6, $7, $7)
ON CONFLICT (tenant_id, key) DO NOTHING RETURNING id;

-- update_metric(id, kind, unit, description, owner, version, actor, is_archived)
-- Another revision.
UPDATE metrics SET kind = $2, unit = $3, description = $4, owner = $5, version = $6, revision = revision + 1,
    updated_at = now(), updated_by = $7, archived_at = CASE WHEN $8 THEN now() END
WHERE tenant_id = current_setting('app.current_tenant')::uuid AND id = $1;

-- insert_version(id, metric_id, version, kind, definition, counts_from, is_ready, actor)
-- A version, which events of the revision `counts_from` and later count for.
INSERT INTO metric_versions (tenant_id, id, metric_id, version, kind, definition, counts_from, ready_at, created_by)
VALUES (current_setting('app.current_tenant')::uuid, $1, $2, $3, $4, $5::jsonb, $6,
    CASE WHEN $7::boolean THEN now() END, $8);

-- end_version(metric_id, counts_until)
-- Events of this revision and later count no more for the version that answered.
UPDATE metric_versions SET counts_until = $2
WHERE tenant_id = current_setting('app.current_tenant')::uuid AND metric_id = $1 AND counts_until IS NULL;
