-- Raw events in declarative partitions: how one is made, and how old ones go. Re-applied at every migration of a
-- database without TimescaleDB's tables; `timescale.sql` has the same two functions for one with them.
-- The worker owns nothing, so it calls these; neither reads a row of any tenant.

CREATE OR REPLACE FUNCTION maintenance.drop_event_partitions(class text, before timestamptz) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
-- A long reader is not waited for: behind a waiting lock everybody would wait.
SET lock_timeout = '2s' AS $$
DECLARE
    partition record;
BEGIN
    IF class NOT IN ('free', 'pro', 'enterprise', 'self_hosted') THEN
        RAISE EXCEPTION 'unknown retention class %', class;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('maintenance.ensure_event_partition'), hashtext(class));
    FOR partition IN
        SELECT c.relname, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz AS ends
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = ('events_' || class)::regclass
        ORDER BY 2
    LOOP
        IF partition.ends <= before THEN
            EXECUTE format('DROP TABLE %I', partition.relname);
            RETURN NEXT partition.relname;
        END IF;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION maintenance.drop_event_partitions(text, timestamptz) FROM PUBLIC;
