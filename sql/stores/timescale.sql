-- Raw events in a hypertable: how a chunk is made, and how old ones go. Re-applied at every migration of a database
-- whose `events` is one; the same functions as in `plain.sql` and the migrations, for the same callers.

-- Chunks inherit the grants of the hypertable and none of its policies: named directly they would show every tenant.
-- So they lie in a schema that nobody but the owner may enter.
REVOKE ALL ON SCHEMA event_chunks FROM PUBLIC;

-- A chunk comes into being with its first row, and the owner may write none (FORCE): but for this one, of nobody.
DROP POLICY IF EXISTS chunk_maker ON events;
CREATE POLICY chunk_maker ON events TO CURRENT_USER
    USING (tenant_id = '00000000-0000-0000-0000-000000000000')
    WITH CHECK (tenant_id = '00000000-0000-0000-0000-000000000000');

-- The chunks of one retention class. Its dimension is in each chunk's constraint alone: no view of TimescaleDB shows
-- a chunk's second range, and its catalogue's tables change from version to version.
CREATE OR REPLACE FUNCTION maintenance.event_chunks_of(class text)
RETURNS TABLE (chunk regclass, starts timestamptz, ends timestamptz) LANGUAGE sql STABLE
SET search_path = public, pg_temp AS $$
    SELECT format('%I.%I', c.chunk_schema, c.chunk_name)::regclass, c.range_start, c.range_end
    FROM timescaledb_information.chunks c
    WHERE c.hypertable_schema = 'public' AND c.hypertable_name = 'events' AND EXISTS (
        SELECT FROM pg_constraint k
        WHERE k.conrelid = format('%I.%I', c.chunk_schema, c.chunk_name)::regclass AND k.contype = 'c'
            AND strpos(pg_get_constraintdef(k.oid),
                format('retention_class_number(retention_class) >= %s)', retention_class_number(class))) > 0
    )
$$;

CREATE OR REPLACE FUNCTION maintenance.ensure_event_partition(class text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    nobody uuid := '00000000-0000-0000-0000-000000000000';
    is_old boolean := day < current_date - 62;
BEGIN
    IF retention_class_number(class) IS NULL THEN
        RAISE EXCEPTION 'unknown retention class %', class;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('maintenance.ensure_event_partition'), hashtext(class));
    IF EXISTS (SELECT FROM maintenance.event_chunks_of(class) WHERE starts <= day AND day < ends) THEN
        RETURN false;
    END IF;
    -- The further back, the coarser: an imported decade is ten chunks. Others see the day's length all the time.
    IF is_old THEN
        PERFORM set_chunk_time_interval('events', CASE
            WHEN extract(year FROM day) < extract(year FROM current_date) - 1 THEN interval '360 days'
            ELSE interval '30 days' END, 'ts');
    END IF;
    INSERT INTO events (tenant_id, retention_class, ts, id, received_at, type, key_id, visitor, session_id, user_id,
        anonymous_id, page_path, referrer_host, country, device, browser, os, method, is_bot, details)
    VALUES (nobody, class, day, nobody, day, '', '', 0, '', '', '', '', '', '', '', '', '', '', false, '{}');
    DELETE FROM events WHERE tenant_id = nobody AND ts = day AND id = nobody AND retention_class = class;
    IF is_old THEN
        PERFORM set_chunk_time_interval('events', interval '1 day', 'ts');
    END IF;
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION maintenance.drop_event_partitions(class text, before timestamptz) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    old record;
BEGIN
    IF retention_class_number(class) IS NULL THEN
        RAISE EXCEPTION 'unknown retention class %', class;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('maintenance.ensure_event_partition'), hashtext(class));
    FOR old IN SELECT * FROM maintenance.event_chunks_of(class) WHERE ends <= before ORDER BY starts
    LOOP
        -- `drop_chunks` knows time only, and would take every class's chunks of that time.
        EXECUTE format('DROP TABLE %s', old.chunk);
        RETURN NEXT old.chunk::text;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION maintenance.drop_event_partitions(text, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION maintenance.event_chunks_of(text) FROM PUBLIC;
