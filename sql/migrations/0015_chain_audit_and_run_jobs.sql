-- The audit trail becomes a chain that can be verified; exports and deletions become jobs.

-- Per tenant a sequence without holes; each entry's hash is over its text and the hash before it. The head says where
-- the chain ends, so that entries missing at its end are missed.
CREATE TABLE audit_heads (
    tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
    sequence bigint NOT NULL,
    hash bytea NOT NULL
);

ALTER TABLE audit_log
    ADD COLUMN sequence bigint,
    ADD COLUMN previous_hash bytea,
    ADD COLUMN hash bytea;

-- The same as `digest_of` in core/audit_chain.py: fields as netstrings (their length in bytes, a colon, the bytes, a
-- comma), behind the hash before.
CREATE FUNCTION maintenance.audit_hash(entry audit_log) RETURNS bytea LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(entry.previous_hash || string_agg(
        convert_to(octet_length(convert_to(field, 'UTF8'))::text || ':' || field || ',', 'UTF8'), '' ORDER BY place))
    FROM unnest(ARRAY[
        entry.tenant_id::text, entry.sequence::text, entry.id::text,
        (extract(epoch FROM entry.at) * 1000000)::bigint::text,
        entry.actor, entry.action, entry.subject, entry.diff::text, entry.request_id
    ]) WITH ORDINALITY AS fields (field, place)
$$;

-- Entries that are there already are chained in their order.
ALTER TABLE audit_log NO FORCE ROW LEVEL SECURITY;
DO $$
DECLARE
    entry audit_log;
    head audit_heads;
BEGIN
    FOR entry IN SELECT * FROM audit_log ORDER BY tenant_id, at, id LOOP
        IF head.tenant_id IS DISTINCT FROM entry.tenant_id THEN
            head := ROW(entry.tenant_id, 0, decode(repeat('00', 32), 'hex'));
        END IF;
        entry.sequence := head.sequence + 1;
        entry.previous_hash := head.hash;
        head.sequence := entry.sequence;
        head.hash := maintenance.audit_hash(entry);
        UPDATE audit_log SET sequence = entry.sequence, previous_hash = entry.previous_hash, hash = head.hash
        WHERE tenant_id = entry.tenant_id AND id = entry.id;
        INSERT INTO audit_heads VALUES (head.tenant_id, head.sequence, head.hash)
        ON CONFLICT (tenant_id) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash;
    END LOOP;
END $$;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;

ALTER TABLE audit_log
    ALTER COLUMN sequence SET NOT NULL,
    ALTER COLUMN previous_hash SET NOT NULL,
    ALTER COLUMN hash SET NOT NULL,
    ADD UNIQUE (tenant_id, sequence);
CREATE INDEX audit_log_by_actor ON audit_log (tenant_id, actor, sequence);
CREATE INDEX audit_log_by_subject ON audit_log (tenant_id, subject, sequence);

-- Whoever writes an entry says what happened; its place, its time and its hash are given here. The head's row is locked
-- until the end of the transaction, so writers of one tenant queue, and no place is left empty by one that fails.
CREATE FUNCTION maintenance.chain_audit_entry() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    head audit_heads;
BEGIN
    SELECT * INTO head FROM audit_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO audit_heads VALUES (NEW.tenant_id, 0, decode(repeat('00', 32), 'hex')) ON CONFLICT DO NOTHING;
        SELECT * INTO STRICT head FROM audit_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
    END IF;
    NEW.id := uuidv7();
    NEW.at := clock_timestamp();
    NEW.sequence := head.sequence + 1;
    NEW.previous_hash := head.hash;
    NEW.hash := maintenance.audit_hash(NEW);
    UPDATE audit_heads SET sequence = NEW.sequence, hash = NEW.hash WHERE tenant_id = NEW.tenant_id;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION maintenance.audit_hash(audit_log), maintenance.chain_audit_entry() FROM PUBLIC;

CREATE TRIGGER chain BEFORE INSERT ON audit_log
FOR EACH ROW EXECUTE FUNCTION maintenance.chain_audit_entry();

-- What is done for a tenant outside of a request. A worker that runs one holds its lease; one whose lease ran out is
-- taken up by another worker, from `place` on.
CREATE TABLE jobs (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL DEFAULT uuidv7(),
    kind text NOT NULL CHECK (kind IN ('export_tenant', 'export_audit_log', 'delete_tenant')),
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    arguments jsonb NOT NULL DEFAULT '{}',
    place jsonb NOT NULL DEFAULT '{}',
    progress double precision NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    doing text NOT NULL DEFAULT '',
    asked_by text NOT NULL,
    request_id text NOT NULL DEFAULT '',
    asked_at timestamptz NOT NULL DEFAULT now(),
    begins_at timestamptz NOT NULL DEFAULT now(),
    began_at timestamptz,
    ended_at timestamptz,
    -- Until when its file is kept, where it made one.
    expires_at timestamptz,
    result jsonb NOT NULL DEFAULT '{}',
    error text NOT NULL DEFAULT '',
    attempts integer NOT NULL DEFAULT 0,
    is_cancel_asked boolean NOT NULL DEFAULT false,
    lease_holder text NOT NULL DEFAULT '',
    leased_until timestamptz,
    PRIMARY KEY (tenant_id, id)
);
-- One of a kind at a time.
CREATE UNIQUE INDEX jobs_open ON jobs (tenant_id, kind) WHERE state IN ('waiting', 'running');
CREATE INDEX jobs_to_do ON jobs (begins_at) WHERE state IN ('waiting', 'running');

-- From when on a tenant's rows go; its keys and sessions are refused at once. Null: it is not to be deleted.
ALTER TABLE tenants ADD COLUMN ends_at timestamptz;
-- Since when they are going: there is no way back.
ALTER TABLE tenants ADD COLUMN erasing_since timestamptz;

-- The proof that a tenant is gone, which outlives it and belongs to no tenant.
CREATE TABLE tenant_erasures (
    id uuid PRIMARY KEY,
    slug text NOT NULL,
    asked_by text NOT NULL,
    asked_at timestamptz,
    began_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    -- By table: rows removed, rows left.
    tables jsonb NOT NULL DEFAULT '{}',
    -- What else was removed: keys in Valkey, topics and records of the log, files of exports.
    others jsonb NOT NULL DEFAULT '{}',
    -- Rows that came in late and were swept up since.
    late_rows bigint NOT NULL DEFAULT 0,
    swept_at timestamptz,
    -- Where its audit trail ended.
    audit_sequence bigint,
    audit_hash bytea,
    -- Its members while they are being erased, then null; and how many of them belonged to nobody else.
    person_ids uuid[],
    people_removed integer NOT NULL DEFAULT 0
);
CREATE INDEX tenant_erasures_by_slug ON tenant_erasures (slug);
