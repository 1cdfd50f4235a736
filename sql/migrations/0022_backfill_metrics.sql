-- A new version's earlier events are counted by a job of its own.

-- Where that is: behind which event, of those up to a moment, and where it began. Null: it has not begun.
ALTER TABLE metric_versions
    ADD COLUMN backfill_from timestamptz,
    ADD COLUMN backfill_until timestamptz,
    ADD COLUMN backfill_ts timestamptz,
    ADD COLUMN backfill_id uuid;
CREATE INDEX metric_versions_to_backfill ON metric_versions (tenant_id)
    WHERE ready_at IS NULL AND counts_until IS NULL AND kind <> 'FORMULA';

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check
    CHECK (kind IN ('export_tenant', 'export_audit_log', 'delete_tenant', 'backfill_metric'));
-- One of a kind at a time; of backfills, one of a version.
DROP INDEX jobs_open;
CREATE UNIQUE INDEX jobs_open ON jobs (tenant_id, kind)
    WHERE state IN ('waiting', 'running') AND kind <> 'backfill_metric';
CREATE UNIQUE INDEX jobs_open_backfills ON jobs (tenant_id, (arguments ->> 'version_id'))
    WHERE state IN ('waiting', 'running') AND kind = 'backfill_metric';
