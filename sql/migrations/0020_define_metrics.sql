-- Metrics that tenants define. A version never changes; events count for it as they come from a metrics revision on, and
-- earlier ones by a backfill: each event bears the revision that held when it was counted.

ALTER TABLE tenants ADD COLUMN metrics_revision integer NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN metrics_revision integer NOT NULL DEFAULT 0;

CREATE TABLE metrics (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    key text NOT NULL,
    kind text NOT NULL CHECK (kind IN
        ('COUNT', 'SUM', 'AVG', 'MIN', 'MAX', 'UNIQUE', 'PERCENTILE', 'RATE', 'RATIO', 'FORMULA')),
    unit text NOT NULL,
    description text NOT NULL,
    owner text NOT NULL,
    -- The version that answers; edits of unit, description or owner raise `revision` alone.
    version integer NOT NULL DEFAULT 1,
    revision integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    archived_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, key)
);

CREATE TABLE metric_versions (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    metric_id uuid NOT NULL,
    version integer NOT NULL,
    kind text NOT NULL,
    definition jsonb NOT NULL,
    -- Workers count events for it whose revision is from `counts_from` to before `counts_until` (null: to this day).
    counts_from integer NOT NULL,
    counts_until integer,
    -- When all earlier events had been counted; null: they are being counted, or it is a formula.
    ready_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, metric_id, version),
    FOREIGN KEY (tenant_id, metric_id) REFERENCES metrics (tenant_id, id)
);

-- Cells of own metrics at three resolutions. `dimension` '' is the total; of a combination, its dimensions joined by
-- commas, and `value` theirs as a JSON array. `sum` is exact: decimals, whatever order they are added in. `matched` are
-- the events above a RATIO's line, and of the others those that had a number.
CREATE TABLE metric_1m (
    tenant_id uuid NOT NULL,
    version_id uuid NOT NULL,
    dimension text NOT NULL,
    bucket timestamptz NOT NULL,
    value text NOT NULL,
    is_bot boolean NOT NULL,
    shard integer NOT NULL,
    count bigint NOT NULL,
    matched bigint NOT NULL,
    sum numeric NOT NULL,
    min double precision,
    max double precision,
    uniques bytea NOT NULL,
    quantiles bytea NOT NULL,
    PRIMARY KEY (tenant_id, version_id, dimension, bucket, value, is_bot, shard)
);
CREATE TABLE metric_5m (LIKE metric_1m INCLUDING ALL);
CREATE TABLE metric_1h (LIKE metric_1m INCLUDING ALL);

-- The tiers and metrics revisions of tenants, which stay as they are until the caller's transaction ends.
DROP FUNCTION maintenance.hold_tiers(uuid[]);
CREATE FUNCTION maintenance.hold_tiers(tenant_ids uuid[])
RETURNS TABLE (tenant_id uuid, tier text, is_moving boolean, metrics_revision integer)
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('maintenance.hold_tiers'), hashtext(held.id::text))
    FROM (SELECT id FROM unnest(tenant_ids) AS wanted (id) ORDER BY id) held;
    RETURN QUERY
    SELECT t.id, t.tier, t.moving_since IS NOT NULL, t.metrics_revision FROM tenants t WHERE t.id = ANY(tenant_ids);
END $$;
REVOKE ALL ON FUNCTION maintenance.hold_tiers(uuid[]) FROM PUBLIC;
