-- Access lists of single objects, re-applied at every migration. `app.current_grantees` names whom the transaction
-- speaks for, as core/access.py decides: unset or empty it raises, it does not hide. Each table of such objects stands
-- in the list below with its kind; a share link speaks for '<kind>:<id>' alone.

-- Columns that only a manager changes; a policy cannot compare a row with what it was.
CREATE OR REPLACE FUNCTION hold_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_user = 'cm_app'
        AND (NEW.viewers, NEW.editors, NEW.managers, NEW.access_revision, NEW.deleted_at)
            IS DISTINCT FROM (OLD.viewers, OLD.editors, OLD.managers, OLD.access_revision, OLD.deleted_at)
        AND access_level(current_setting('app.current_grantees')::text[], OLD.owner, OLD.viewers, OLD.editors,
            OLD.managers) < 3
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'only a manager of an object changes who may do what with it';
    END IF;
    RETURN NEW;
END $$;

-- Who is no member any more stands in no list, and the links that it made have ended: invited again, a person has what
-- is given again.
CREATE OR REPLACE FUNCTION forget_grantee() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    mine text := current_setting('app.current_grantees', true);
    gone text := 'person:' || OLD.person_id;
BEGIN
    IF current_user = 'cm_app' THEN
        PERFORM set_config('app.current_grantees', '{role:owner}', true);
        UPDATE questions SET viewers = array_remove(viewers, gone), editors = array_remove(editors, gone),
            managers = array_remove(managers, gone), access_revision = access_revision + 1
        WHERE tenant_id = OLD.tenant_id AND viewers || editors || managers @> ARRAY[gone];
        UPDATE share_links SET revoked_at = now(), revoked_by = gone
        WHERE tenant_id = OLD.tenant_id AND created_by = gone AND revoked_at IS NULL;
        PERFORM set_config('app.current_grantees', coalesce(mine, ''), true);
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS forget_grantee ON members;
CREATE TRIGGER forget_grantee AFTER DELETE ON members FOR EACH ROW EXECUTE FUNCTION forget_grantee();

DO $$
DECLARE
    name text;
    kind text;
    -- How much may be done with an object: 0 nothing, 1 view, 2 edit, 3 manage. Written into each policy, where its
    -- settings are read once a statement: a call for each row takes five times as long.
    level CONSTANT text := 'CASE
        WHEN owner = ANY(<mine>) OR ''role:owner'' = ANY(<mine>) OR managers && <mine> THEN 3
        WHEN editors && <mine> THEN 2
        WHEN viewers && <mine> OR <object> = ANY(<mine>) THEN 1
        ELSE 0 END';
    mine CONSTANT text := '(SELECT current_setting(''app.current_grantees'')::text[])::text[]';
    of_row text;
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION access_level(mine text[], owner text, viewers text[], editors text[],'
        ' managers text[]) RETURNS integer LANGUAGE sql IMMUTABLE AS %L',
        'SELECT ' || replace(replace(level, '<mine>', 'mine'), '<object>', quote_literal('')));
    FOR name, kind IN VALUES ('questions', 'question')
    LOOP
        EXECUTE format('DROP POLICY IF EXISTS viewed ON %I', name);
        EXECUTE format('DROP POLICY IF EXISTS made ON %I', name);
        EXECUTE format('DROP POLICY IF EXISTS edited ON %I', name);
        EXECUTE format('DROP TRIGGER IF EXISTS hold_access ON %I', name);
        of_row := replace(replace(level, '<mine>', mine), '<object>', format('(%L || id)', kind || ':'));
        -- What is deleted is there for its managers alone, until it is purged.
        EXECUTE format('CREATE POLICY viewed ON %I AS RESTRICTIVE FOR SELECT TO cm_app USING (%s >='
            ' CASE WHEN deleted_at IS NULL THEN 1 ELSE 3 END)', name, of_row);
        EXECUTE format('CREATE POLICY made ON %I AS RESTRICTIVE FOR INSERT TO cm_app WITH CHECK (owner = ANY(%s))',
            name, mine);
        EXECUTE format('CREATE POLICY edited ON %I AS RESTRICTIVE FOR UPDATE TO cm_app USING (%s >='
            ' CASE WHEN deleted_at IS NULL THEN 2 ELSE 3 END)', name, of_row);
        EXECUTE format('CREATE TRIGGER hold_access BEFORE UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION hold_access()',
            name);
    END LOOP;
END $$;

-- Links are made, seen and ended by who manages their object.
DROP POLICY IF EXISTS managed ON share_links;
CREATE POLICY managed ON share_links AS RESTRICTIVE TO cm_app USING (
    object_kind = 'question' AND EXISTS (
        SELECT FROM questions q
        WHERE q.tenant_id = share_links.tenant_id AND q.id = share_links.object_id
            AND access_level((SELECT current_setting('app.current_grantees')::text[]), q.owner, q.viewers, q.editors,
                q.managers) = 3
    )
);
