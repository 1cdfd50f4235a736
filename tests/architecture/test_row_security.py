"""Read from the catalogue: every table of tenants is held by row-level security, and no role of ours can get round."""

from __future__ import annotations

from datetime import date
from uuid import uuid4

import asyncpg
import pytest

from core.database import Database, as_owner
from core.eventlog import Offset, Partition
from core.settings import Settings
from pipeline.prepared import prepare
from pipeline.store import Store
from tests.pipeline.builders import batch_of, enriched

ON_BOTH_STORES = True


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
    assert len(found) >= 10
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
        "WHERE c.relkind IN ('r', 'p') AND has_table_privilege('cm_app', c.oid, 'SELECT') "
        "AND has_schema_privilege('cm_app', c.relnamespace, 'USAGE')",
    )
    assert found == []


async def test_a_partition_or_chunk_named_directly_shows_nobody_anything(
    settings: Settings, database: Database
) -> None:
    """A hypertable hands its grants down to its chunks, and none of its policies."""
    store, days = Store(database, "test"), {("free", date(2026, 1, 31)), ("self_hosted", date(2026, 1, 31))}
    await store.ensure_days(days)
    event = enriched(timestamp_ms=1_769_817_600_000)
    await store.transact(
        Partition("t"), await prepare([batch_of(uuid4(), event)]), Offset("0"), lambda _: (Offset("1"), b"")
    )
    leaves = await rows(
        settings,
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.relkind = 'r' AND c.relname LIKE 'events%'",
    )
    assert len(leaves) >= 2
    for role in (settings.app_url, settings.doorkeeper_url, settings.writer_url):
        async with as_owner(role) as connection:
            await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(uuid4()))
            for (leaf,) in leaves:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetch(f"SELECT * FROM {leaf}")
