-- Raw events: by retention class first, then by day, so that dropping old events is dropping a table.
-- The key refuses a repeat for as long as the event is kept; the ledger does so for 7 days whatever the timestamp.

CREATE TABLE events (
    tenant_id uuid NOT NULL,
    retention_class text NOT NULL,
    ts timestamptz NOT NULL,
    id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    type text NOT NULL,
    key_id text NOT NULL,
    visitor bigint NOT NULL,
    session bigint,
    session_id text NOT NULL,
    user_id text NOT NULL,
    anonymous_id text NOT NULL,
    page_path text NOT NULL,
    referrer_host text NOT NULL,
    country text NOT NULL,
    device text NOT NULL,
    browser text NOT NULL,
    os text NOT NULL,
    method text NOT NULL,
    status integer,
    duration_ms double precision,
    bytes bigint,
    is_bot boolean NOT NULL,
    details jsonb NOT NULL,
    PRIMARY KEY (tenant_id, ts, id, retention_class)
) PARTITION BY LIST (retention_class);

CREATE TABLE events_free PARTITION OF events FOR VALUES IN ('free') PARTITION BY RANGE (ts);
CREATE TABLE events_pro PARTITION OF events FOR VALUES IN ('pro') PARTITION BY RANGE (ts);
CREATE TABLE events_enterprise PARTITION OF events FOR VALUES IN ('enterprise') PARTITION BY RANGE (ts);
CREATE TABLE events_self_hosted PARTITION OF events FOR VALUES IN ('self_hosted') PARTITION BY RANGE (ts);

CREATE TABLE event_ids (
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    received_on date NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);
CREATE INDEX event_ids_by_day ON event_ids (received_on);

-- Partitions are made by the worker that meets the day. It owns nothing, so it calls this; the function
-- reads no row of any tenant. A new table is attached, not created in place: attaching locks out no reader.
CREATE SCHEMA maintenance;

CREATE FUNCTION maintenance.ensure_event_partition(class text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    parent text := 'events_' || class;
    year_name text := parent || '_' || to_char(day, 'YYYY');
    month_name text := parent || '_' || to_char(day, 'YYYY_MM');
    day_name text := parent || '_' || to_char(day, 'YYYY_MM_DD');
    starts date;
    ends date;
    name text;
BEGIN
    IF class NOT IN ('free', 'pro', 'enterprise', 'self_hosted') THEN
        RAISE EXCEPTION 'unknown retention class %', class;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('maintenance.ensure_event_partition'), hashtext(class));
    IF to_regclass(year_name) IS NOT NULL OR to_regclass(month_name) IS NOT NULL
        OR to_regclass(day_name) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- The further back, the coarser: an imported decade is ten tables. A finer table that is there already wins.
    IF extract(year FROM day) < extract(year FROM current_date) - 1 AND NOT EXISTS (
        SELECT 1 FROM pg_class WHERE starts_with(relname, year_name || '_')
    ) THEN
        name := year_name; starts := date_trunc('year', day); ends := starts + interval '1 year';
    ELSIF day < current_date - 62 AND NOT EXISTS (
        SELECT 1 FROM pg_class WHERE starts_with(relname, month_name || '_')
    ) THEN
        name := month_name; starts := date_trunc('month', day); ends := starts + interval '1 month';
    ELSE
        name := day_name; starts := day; ends := day + 1;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, parent);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        parent, name, starts::text || ' 00:00:00+00', ends::text || ' 00:00:00+00');
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION maintenance.ensure_event_partition(text, date) FROM PUBLIC;
