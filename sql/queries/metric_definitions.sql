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
    v.definition::text AS definition, v.counts_from, v.ready_at
FROM tenants t
LEFT JOIN metrics m ON m.tenant_id = t.id AND m.archived_at IS NULL
LEFT JOIN metric_versions v ON v.tenant_id = m.tenant_id AND v.metric_id = m.id AND v.version = m.version
WHERE t.id = $1
ORDER BY m.key;
