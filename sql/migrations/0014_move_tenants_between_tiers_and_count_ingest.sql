-- A tenant's tier may change, and its raw events follow; what became of events at the doors and in the workers, counted.

-- Since when events of the tenant may still stand in the storage class of a former tier; null: all stand in its own.
ALTER TABLE tenants ADD COLUMN moving_since timestamptz;

-- The tiers of tenants, which stay as they are until the caller's transaction ends. A function, since each of its
-- statements sees what was committed before it: the tier is read only once it is held.
CREATE FUNCTION maintenance.hold_tiers(tenant_ids uuid[]) RETURNS TABLE (tenant_id uuid, tier text, is_moving boolean)
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('maintenance.hold_tiers'), hashtext(held.id::text))
    FROM (SELECT id FROM unnest(tenant_ids) AS wanted (id) ORDER BY id) held;
    RETURN QUERY
    SELECT t.id, t.tier, t.moving_since IS NOT NULL FROM tenants t WHERE t.id = ANY(tenant_ids);
END $$;
REVOKE ALL ON FUNCTION maintenance.hold_tiers(uuid[]) FROM PUBLIC;

-- What became of events, by the minute and the hour in which they were received: sums, to which workers add in the
-- transaction that counts the events, and web processes every few seconds. `outcome` is one of core/ingest_counts.py.
CREATE TABLE ingest_1m (
    tenant_id uuid NOT NULL,
    outcome text NOT NULL,
    bucket timestamptz NOT NULL,
    reason text NOT NULL,
    key_id text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (tenant_id, outcome, bucket, reason, key_id)
    -- Room beside each row for its next value, so that no index is touched when it grows.
) WITH (fillfactor = 70);

CREATE TABLE ingest_1h (
    tenant_id uuid NOT NULL,
    outcome text NOT NULL,
    bucket timestamptz NOT NULL,
    reason text NOT NULL,
    key_id text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (tenant_id, outcome, bucket, reason, key_id)
) WITH (fillfactor = 70);
