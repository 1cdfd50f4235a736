-- What the doors themselves run. In: nothing but the tenant. Out: nothing of any tenant.

-- check_role()
-- Why the connected role could bypass row-level security, or null.
SELECT CASE
    WHEN r.rolsuper THEN r.rolname || ' is a superuser'
    WHEN r.rolbypassrls THEN r.rolname || ' has BYPASSRLS'
    WHEN EXISTS (
        SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relowner = r.oid AND n.nspname = 'public' AND c.relkind IN ('r', 'p')
    ) THEN r.rolname || ' owns tables'
END
FROM pg_roles r WHERE r.rolname = current_user;

-- begin(...)
-- A transaction that may write.
BEGIN;

-- begin_reading(...)
-- A transaction that may not.
BEGIN READ ONLY;

-- begin_as_tenant(...)
-- A transaction that may write, for one tenant; the setting is gone at its end. A tenant's id is a UUID and nothing else.
BEGIN; SELECT set_config('app.current_tenant', '{tenant_id}', true);

-- begin_reading_as_tenant(...)
-- The same, reading only.
BEGIN READ ONLY; SELECT set_config('app.current_tenant', '{tenant_id}', true);

-- begin_as_grantees(...)
-- A transaction that may write, for one tenant and some of the grantees of its objects; the door checks their form.
BEGIN; SELECT set_config('app.current_tenant', '{tenant_id}', true),
    set_config('app.current_grantees', '{grantees}', true);

-- begin_reading_as_grantees(...)
-- The same, reading only.
BEGIN READ ONLY; SELECT set_config('app.current_tenant', '{tenant_id}', true),
    set_config('app.current_grantees', '{grantees}', true);

-- commit(...)
-- Keeps what was written.
COMMIT;

-- rollback(...)
-- Takes it back.
ROLLBACK;
