-- Row-level security, re-applied at every migration: enabled and forced on every table of tenants.
-- The application sees the one tenant of its transaction; with none set the policy raises, it does not hide.
-- The writer and the doorkeeper see all tenants of the few tables they are granted, and nothing else.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tenants', 'api_keys', 'api_key_secrets', 'audit_log', 'events', 'events_free',
        'events_pro', 'events_enterprise', 'events_self_hosted', 'event_ids', 'rollup_1m', 'rollup_5m', 'rollup_1h',
        'daily_usage', 'dead_letters', 'month_quota', 'members', 'sessions', 'ingest_1m', 'ingest_1h', 'invitations',
        'outbox', 'questions', 'share_links', 'audit_heads', 'jobs', 'metrics', 'metric_versions', 'metric_1m', 'metric_5m',
        'metric_1h',
        'sign_in_connections', 'sign_in_identities', 'sign_in_attempts', 'saml_assertions']
    LOOP
        -- The tables by class are there in the plain store only.
        CONTINUE WHEN to_regclass(name) IS NULL;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('DROP POLICY IF EXISTS tenant ON %I', name);
        EXECUTE format('DROP POLICY IF EXISTS writer ON %I', name);
        EXECUTE format('DROP POLICY IF EXISTS doorkeeper ON %I', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I TO cm_app USING (%I = (SELECT current_setting(''app.current_tenant'')::uuid))'
            ' WITH CHECK (%2$I = (SELECT current_setting(''app.current_tenant'')::uuid))',
            name, CASE WHEN name = 'tenants' THEN 'id' ELSE 'tenant_id' END);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['tenants', 'events', 'event_ids', 'rollup_1m', 'rollup_5m', 'rollup_1h',
        'daily_usage', 'dead_letters', 'ingest_1m', 'ingest_1h', 'outbox', 'questions', 'share_links', 'jobs',
        'sessions', 'invitations', 'metrics', 'metric_versions', 'metric_1m', 'metric_5m', 'metric_1h']
    LOOP
        EXECUTE format('CREATE POLICY writer ON %I TO cm_writer USING (true) WITH CHECK (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['tenants', 'api_keys', 'api_key_secrets', 'daily_usage', 'members', 'sessions',
        'audit_log', 'ingest_1m', 'ingest_1h', 'invitations', 'outbox', 'questions', 'share_links', 'sign_in_connections']
    LOOP
        EXECUTE format('CREATE POLICY doorkeeper ON %I TO cm_doorkeeper USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;

-- People belong to no tenant: the application sees those who are members of the tenant of its transaction.
ALTER TABLE people ENABLE ROW LEVEL SECURITY;
ALTER TABLE people FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS tenant ON people;
DROP POLICY IF EXISTS doorkeeper ON people;
DROP POLICY IF EXISTS invited ON people;
CREATE POLICY tenant ON people FOR SELECT TO cm_app USING (id IN (SELECT person_id FROM members));
-- And it makes nobody but those who are invited to that tenant.
CREATE POLICY invited ON people FOR INSERT TO cm_app WITH CHECK (EXISTS (
    SELECT FROM invitations i WHERE i.email = people.email AND i.revoked_at IS NULL AND i.accepted_at IS NULL AND i.expires_at > now()
));
CREATE POLICY doorkeeper ON people TO cm_doorkeeper USING (true) WITH CHECK (true);

-- What is asked for a person's account is no tenant's affair.
ALTER TABLE password_resets ENABLE ROW LEVEL SECURITY;
ALTER TABLE password_resets FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS doorkeeper ON password_resets;
CREATE POLICY doorkeeper ON password_resets TO cm_doorkeeper USING (true) WITH CHECK (true);

-- A tenant's identity provider makes people of that tenant, changes what it said of them, and reaches no others.
DROP POLICY IF EXISTS home_insert ON people;
DROP POLICY IF EXISTS home_update ON people;
CREATE POLICY home_insert ON people FOR INSERT TO cm_app
    WITH CHECK (home_tenant_id = (SELECT current_setting('app.current_tenant')::uuid));
CREATE POLICY home_update ON people FOR UPDATE TO cm_app
    USING (home_tenant_id = (SELECT current_setting('app.current_tenant')::uuid))
    WITH CHECK (home_tenant_id = (SELECT current_setting('app.current_tenant')::uuid));
