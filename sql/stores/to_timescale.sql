-- From declarative partitions to a hypertable, the empty half: the partitioned table steps aside as `events_plain`,
-- and `events` is one anew. Its rows follow, partition by partition, in the same transaction.

LOCK TABLE events IN ACCESS EXCLUSIVE MODE;
ALTER TABLE events RENAME TO events_plain;
ALTER INDEX events_pkey RENAME TO events_plain_pkey;
CREATE TABLE events (LIKE events_plain INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
ALTER TABLE events ADD PRIMARY KEY (tenant_id, ts, id, retention_class);

-- In `public`, where every role may call it: the hypertable does, as whoever writes or reads.
CREATE FUNCTION retention_class_number(class text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE class WHEN 'free' THEN 0 WHEN 'pro' THEN 1 WHEN 'enterprise' THEN 2 WHEN 'self_hosted' THEN 3 END
$$;
CREATE SCHEMA event_chunks;
-- A chunk is one class's day, so that dropping a class's old events is dropping chunks.
SELECT create_hypertable('events', 'ts', chunk_time_interval => interval '1 day', create_default_indexes => false,
    associated_schema_name => 'event_chunks', associated_table_prefix => 'events');
SELECT add_dimension('events', by_range('retention_class', 1, partition_func => 'retention_class_number'));
