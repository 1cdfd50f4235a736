-- Which way raw events are stored, and the way from one to the other. In: the owner's connection. Out: modes, counts.

-- has_timescale_tables()
-- Whether `events` is a hypertable: of the extension's catalogue nothing is asked, since it may not be there.
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'event_chunks');

-- can_have_timescale()
-- Whether the server has TimescaleDB, loaded at its start: its loader's settings exist only then, and the extension's
-- own only where it was created.
SELECT current_setting('timescaledb.disable_load', true) IS NOT NULL
    AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb');

-- create_extension(...)
-- A trusted extension: the owner of the database may.
CREATE EXTENSION IF NOT EXISTS timescaledb;

-- list_plain_partitions(parent)
-- The tables that hold rows of a partitioned one, oldest names first.
SELECT t.relid::text AS name, parent.relname AS parent
FROM pg_partition_tree($1::regclass) t
JOIN pg_class parent ON parent.oid = t.parentrelid
WHERE t.isleaf ORDER BY 1;

-- open_to_owner(...)
-- Row-level security forced on the owner ends for this table, which is dropped in the same transaction.
ALTER TABLE {partition} NO FORCE ROW LEVEL SECURITY;

-- days_of_partition(...)
-- The classes and days that it has rows of.
SELECT DISTINCT retention_class, (ts AT TIME ZONE 'UTC')::date AS day FROM {partition} ORDER BY 1, 2;

-- ensure_partition(retention_class, day)
-- The chunk for a day, made when it is missing.
SELECT maintenance.ensure_event_partition($1, $2);

-- copy_partition(...)
-- Its rows into the new table.
INSERT INTO events SELECT * FROM {partition};

-- drop_plain_events(...)
-- The end of the partitioned table, once every row has moved.
DROP TABLE events_plain CASCADE;
