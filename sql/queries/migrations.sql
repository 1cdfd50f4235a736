-- The migration runner's own statements. In: files of sql/migrations and sql/policies. Out: the table of what ran.

-- lock_migrations()
-- One runner at a time, waited for; freed with the session.
SELECT pg_advisory_lock(hashtext('cloudmetrics.migrations'));

-- create_migrations_table()
-- What ran, with the checksum of its text then.
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- list_migrations()
-- What ran, in order.
SELECT name, checksum, applied_at FROM schema_migrations ORDER BY name;

-- record_migration(name, checksum)
-- Written in the transaction of the file itself.
INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2);
