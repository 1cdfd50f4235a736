"""Read from the catalogue: every table of tenants is held by row-level security, and no role of ours can get round."""

from __future__ import annotations

from core.database import Database, as_owner
from core.settings import Settings


async def rows(settings: Settings, text: str) -> list[tuple[object, ...]]:
    async with as_owner(settings.owner_url) as connection:
        return [tuple(row) for row in await connection.fetch(text)]


async def test_every_table_with_a_tenant_has_forced_row_security(settings: Settings) -> None:
    found = await rows(
        settings,
        "SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
        "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')",
    )
    assert len(found) >= 14
    assert [name for name, enabled, forced in found if not (enabled and forced)] == []


async def test_no_role_of_ours_owns_tables_or_bypasses(settings: Settings) -> None:
    found = await rows(
        settings,
        "SELECT rolname FROM pg_roles WHERE rolname IN ('cm_app', 'cm_writer', 'cm_doorkeeper') "
        "AND (rolsuper OR rolbypassrls OR rolcreaterole OR EXISTS "
        "(SELECT 1 FROM pg_class WHERE relowner = pg_roles.oid))",
    )
    assert found == []


async def test_partitions_are_granted_to_nobody(settings: Settings, database: Database) -> None:
    found = await rows(
        settings,
        "SELECT c.relname FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid "
        "WHERE c.relkind IN ('r', 'p') AND has_table_privilege('cm_app', c.oid, 'SELECT')",
    )
    assert found == []
