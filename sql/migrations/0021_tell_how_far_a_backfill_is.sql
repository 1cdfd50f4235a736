-- How far the backfill of a version is, for whoever waits for it.

ALTER TABLE metric_versions ADD COLUMN backfilled real NOT NULL DEFAULT 0 CHECK (backfilled BETWEEN 0 AND 1);
