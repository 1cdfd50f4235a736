-- The end of a tenant: functions that the worker of jobs calls, since it owns nothing. They remove rows of one tenant,
-- the one in `app.erased_tenant`, and of none that is not marked as going; re-applied at every migration.

-- The tables of tenants as the catalogue has them, those that refer to others before these; `keys` are the columns of
-- the primary key after the tenant, with their types.
CREATE OR REPLACE FUNCTION maintenance.tables_of_tenants()
RETURNS TABLE (name text, keys text[], types text[]) LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    WITH RECURSIVE owned AS (
        SELECT c.oid FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ), below (oid, depth) AS (
        SELECT oid, 0 FROM owned
        UNION
        SELECT k.conrelid, b.depth + 1 FROM below b
        JOIN pg_constraint k ON k.contype = 'f' AND k.confrelid = b.oid AND k.conrelid <> b.oid
        JOIN owned o ON o.oid = k.conrelid
        WHERE b.depth < 20
    )
    SELECT b.oid::regclass::text,
        coalesce((SELECT array_agg(format('%I', a.attname) ORDER BY k.place)
            FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
            WHERE i.indrelid = b.oid AND i.indisprimary AND a.attname <> 'tenant_id'), '{}'),
        coalesce((SELECT array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.place)
            FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
            WHERE i.indrelid = b.oid AND i.indisprimary AND a.attname <> 'tenant_id'), '{}')
    FROM below b GROUP BY b.oid ORDER BY max(b.depth) DESC, 1
$$;

-- Marks a tenant whose time has come as going, and opens its proof; false when there is no such tenant any more.
CREATE OR REPLACE FUNCTION maintenance.begin_erasure(erased uuid, asked_by text, asked_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    tenant tenants;
BEGIN
    PERFORM set_config('app.erased_tenant', erased::text, true);
    SELECT * INTO tenant FROM tenants WHERE id = erased FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF tenant.ends_at IS NULL OR tenant.ends_at > now() THEN
        RAISE EXCEPTION 'tenant % is not to be erased now', erased USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE tenants SET erasing_since = coalesce(erasing_since, now()) WHERE id = erased;
    INSERT INTO tenant_erasures (id, slug, asked_by, asked_at, person_ids)
    VALUES (erased, tenant.slug, begin_erasure.asked_by, begin_erasure.asked_at,
        ARRAY(SELECT person_id FROM members WHERE tenant_id = erased))
    ON CONFLICT (id) DO NOTHING;
    RETURN true;
END $$;

-- Notes what was removed of a table.
CREATE OR REPLACE FUNCTION maintenance.note_erased(erased uuid, name text, removed bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE tenant_erasures SET tables = tables || jsonb_build_object(name, jsonb_build_object(
        'removed', coalesce((tables -> name ->> 'removed')::bigint, 0) + removed, 'left', null))
    WHERE id = erased
$$;

-- Removes up to `most` rows of a table; how many, or -1 while other tables still refer to them. The rows are a range of
-- the primary key, so that a bite costs the same however large the table is.
CREATE OR REPLACE FUNCTION maintenance.erase_rows(erased uuid, wanted text, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    target record;
    columns text;
    bound text[];
    condition text := '';
    removed bigint;
BEGIN
    PERFORM set_config('app.erased_tenant', erased::text, true);
    IF NOT EXISTS (SELECT FROM tenants WHERE id = erased AND erasing_since IS NOT NULL) THEN
        RAISE EXCEPTION 'tenant % is not being erased', erased USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT * INTO STRICT target FROM maintenance.tables_of_tenants() t WHERE t.name = wanted;
    IF cardinality(target.keys) > 0 THEN
        columns := array_to_string(target.keys, ', ');
        EXECUTE format('SELECT ARRAY[%s] FROM %s WHERE tenant_id = $1 ORDER BY tenant_id, %s OFFSET $2 - 1 LIMIT 1',
            array_to_string(ARRAY(SELECT key || '::text' FROM unnest(target.keys) key), ', '), wanted, columns)
        INTO bound USING erased, most;
    END IF;
    IF bound IS NOT NULL THEN
        -- The first column alone as well: by it partitions are left out.
        condition := format(' AND %s <= %L::%s AND (%s) <= (%s)', target.keys[1], bound[1], target.types[1], columns,
            (SELECT string_agg(format('%L::%s', bound[n], target.types[n]), ', ' ORDER BY n)
             FROM generate_subscripts(bound, 1) n));
    END IF;
    EXECUTE format('DELETE FROM %s WHERE tenant_id = %L%s', wanted, erased, condition);
    GET DIAGNOSTICS removed = ROW_COUNT;
    PERFORM maintenance.note_erased(erased, wanted, removed);
    RETURN removed;
EXCEPTION WHEN foreign_key_violation THEN
    RETURN -1;
END $$;

-- Tables that belong to people alone, such as resets of their passwords, and the column that says whose a row is.
CREATE OR REPLACE FUNCTION maintenance.tables_of_people() RETURNS TABLE (name text, person_column text)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT k.conrelid::regclass::text, format('%I', a.attname)
    FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
    WHERE k.contype = 'f' AND k.confrelid = 'people'::regclass AND NOT EXISTS (
        SELECT FROM pg_attribute t WHERE t.attrelid = k.conrelid AND t.attname = 'tenant_id' AND NOT t.attisdropped)
$$;

-- A person and all that is its own; false, and nothing, while a tenant still refers to it.
CREATE OR REPLACE FUNCTION maintenance.erase_person(person uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    own record;
BEGIN
    PERFORM set_config('app.erased_person', person::text, true);
    FOR own IN SELECT * FROM maintenance.tables_of_people() LOOP
        EXECUTE format('DELETE FROM %s WHERE %s = %L', own.name, own.person_column, person);
    END LOOP;
    DELETE FROM people WHERE id = person;
    RETURN FOUND;
EXCEPTION WHEN foreign_key_violation THEN
    RETURN false;
END $$;

-- The last step, all or nothing: what is left goes, the tenant's own row too, and the proof is closed with what the
-- catalogue's tables hold of the tenant then. How many rows are left: 0.
CREATE OR REPLACE FUNCTION maintenance.finish_erasure(erased uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    target record;
    person uuid;
    removed bigint;
    remaining bigint;
    total bigint := 0;
BEGIN
    PERFORM set_config('app.erased_tenant', erased::text, true);
    -- Whoever wants to refer to the tenant from here on waits, and then finds it gone.
    PERFORM FROM tenants WHERE id = erased AND erasing_since IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    UPDATE tenant_erasures e SET audit_sequence = h.sequence, audit_hash = h.hash
    FROM audit_heads h WHERE h.tenant_id = erased AND e.id = erased;
    FOR target IN SELECT * FROM maintenance.tables_of_tenants() LOOP
        EXECUTE format('DELETE FROM %s WHERE tenant_id = %L', target.name, erased);
        GET DIAGNOSTICS removed = ROW_COUNT;
        PERFORM maintenance.note_erased(erased, target.name, removed);
    END LOOP;
    -- Those whom the tenant's identity provider made are the tenant's own.
    FOR person IN SELECT id FROM people WHERE home_tenant_id = erased LOOP
        IF maintenance.erase_person(person) THEN
            UPDATE tenant_erasures SET people_removed = people_removed + 1 WHERE id = erased;
        END IF;
    END LOOP;
    DELETE FROM tenants WHERE id = erased;
    PERFORM maintenance.note_erased(erased, 'tenants', 1);
    FOR target IN SELECT name FROM maintenance.tables_of_tenants() UNION ALL SELECT 'tenants' LOOP
        EXECUTE format('SELECT count(*) FROM %s WHERE %I = %L', target.name,
            CASE target.name WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END, erased) INTO remaining;
        total := total + remaining;
        UPDATE tenant_erasures SET tables = jsonb_set(tables, ARRAY[target.name, 'left'], to_jsonb(remaining))
        WHERE id = erased;
    END LOOP;
    IF total > 0 THEN
        -- Somebody committed rows meanwhile: nothing has happened, and it is tried again.
        RAISE EXCEPTION '% rows of tenant % came in while it was erased', total, erased;
    END IF;
    UPDATE tenant_erasures SET ended_at = now() WHERE id = erased;
    RETURN total;
END $$;

-- Rows that came in after the end, by whoever knew of the tenant still: removed, and noted in the proof.
CREATE OR REPLACE FUNCTION maintenance.sweep_erased(erased uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    target record;
    removed bigint;
    total bigint := 0;
BEGIN
    PERFORM set_config('app.erased_tenant', erased::text, true);
    IF NOT EXISTS (SELECT FROM tenant_erasures WHERE id = erased AND ended_at IS NOT NULL) THEN
        RETURN 0;
    END IF;
    FOR target IN SELECT name FROM maintenance.tables_of_tenants() LOOP
        EXECUTE format('DELETE FROM %s WHERE tenant_id = %L', target.name, erased);
        GET DIAGNOSTICS removed = ROW_COUNT;
        total := total + removed;
    END LOOP;
    UPDATE tenant_erasures SET late_rows = late_rows + total, swept_at = now() WHERE id = erased;
    RETURN total;
END $$;

-- People who were members of the erased tenant and are of no other. Whoever cannot go now is tried again by the sweep;
-- who is a member elsewhere stays, and the proof forgets it.
CREATE OR REPLACE FUNCTION maintenance.erase_people(erased uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    person uuid;
    removed integer := 0;
    failed uuid[] := '{}';
BEGIN
    FOR person IN SELECT unnest(person_ids) FROM tenant_erasures WHERE id = erased AND ended_at IS NOT NULL LOOP
        IF maintenance.erase_person(person) THEN
            removed := removed + 1;
        ELSE
            -- Its own setting was undone with the attempt.
            PERFORM set_config('app.erased_person', person::text, true);
            IF EXISTS (SELECT FROM people WHERE id = person)
                AND NOT EXISTS (SELECT FROM members WHERE person_id = person) THEN
                failed := failed || person;
            END IF;
        END IF;
    END LOOP;
    UPDATE tenant_erasures SET person_ids = nullif(failed, '{}'), people_removed = people_removed + removed
    WHERE id = erased;
    RETURN removed;
END $$;

-- Row-level security is forced on the owner too, as whom these functions run: it sees the tenant that is erased.
DO $$
DECLARE
    name text;
    own record;
BEGIN
    FOR own IN SELECT * FROM maintenance.tables_of_people() LOOP
        EXECUTE format('DROP POLICY IF EXISTS eraser ON %s', own.name);
        EXECUTE format('CREATE POLICY eraser ON %s TO CURRENT_USER USING (%s = nullif(current_setting('
            '''app.erased_person'', true), '''')::uuid)', own.name, own.person_column);
    END LOOP;
    FOR name IN SELECT t.name FROM maintenance.tables_of_tenants() t UNION ALL SELECT 'tenants' LOOP
        EXECUTE format('DROP POLICY IF EXISTS eraser ON %s', name);
        EXECUTE format(
            'CREATE POLICY eraser ON %s TO CURRENT_USER USING (%I = nullif(current_setting(''app.erased_tenant'', true), '
            ''''')::uuid)', name, CASE name WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END);
    END LOOP;
END $$;
DROP POLICY IF EXISTS eraser ON people;
CREATE POLICY eraser ON people TO CURRENT_USER
    USING (id = nullif(current_setting('app.erased_person', true), '')::uuid
        OR home_tenant_id = nullif(current_setting('app.erased_tenant', true), '')::uuid);

-- Whether whoever cannot go is a member of another tenant.
DROP POLICY IF EXISTS eraser_of_person ON members;
CREATE POLICY eraser_of_person ON members FOR SELECT TO CURRENT_USER
    USING (person_id = nullif(current_setting('app.erased_person', true), '')::uuid);

-- The chain's trigger runs as the owner, and needs the head of whichever tenant an entry is of: the doorkeeper, who
-- writes some, has set no tenant.
DROP POLICY IF EXISTS chain ON audit_heads;
CREATE POLICY chain ON audit_heads TO CURRENT_USER USING (true);

REVOKE ALL ON FUNCTION maintenance.tables_of_tenants(), maintenance.begin_erasure(uuid, text, timestamptz),
    maintenance.note_erased(uuid, text, bigint), maintenance.erase_rows(uuid, text, integer),
    maintenance.finish_erasure(uuid), maintenance.sweep_erased(uuid), maintenance.erase_people(uuid),
    maintenance.tables_of_people(), maintenance.erase_person(uuid) FROM PUBLIC;
