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

-- set_tenant(tenant_id)
-- The tenant of this transaction; gone at its end.
SELECT set_config('app.current_tenant', $1, true);
