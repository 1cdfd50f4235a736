"""Every table of tenants x every operation, as the application for another tenant: nothing is seen, nothing changed.

The tables are read from the catalogue and filled by their columns' types, so a new table is walked without a word
here; one whose checks the made-up values do not meet needs a line in `VALUES`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from core.database import Database, as_owner
from core.queries import Query
from core.settings import Settings
from core.tenancy import TenantId
from pipeline.store import Store

ON_BOTH_STORES = True

OURS, THEIRS = uuid4(), uuid4()
MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
BY_TYPE: dict[str, Any] = {
    "uuid": OURS, "text": "x", "bytea": b"x", "bool": True, "int2": 1, "int4": 1, "int8": 1, "float8": 1.0,
    "float4": 1.0, "timestamptz": MOMENT, "date": MOMENT.date(), "jsonb": "{}", "json": "{}", "_text": ["x"],
    "interval": MOMENT - MOMENT, "inet": "10.0.0.1", "numeric": 1, "_uuid": [OURS],
}  # fmt: skip
# What a table's checks ask for, by column; a table's own line wins.
VALUES: dict[str, dict[str, Any]] = {
    "tenants": {"tier": "self_hosted"},
    "api_keys": {"kind": "secret"},
    "members": {"role": "viewer"},
    "events": {"retention_class": "self_hosted"},
    "invitations": {"role": "viewer"},
    "metrics": {"kind": "COUNT"},
    "share_links": {"object_kind": "question"},
    "jobs": {"kind": "export_tenant", "state": "done"},
    "sign_in_connections": {"kind": "oidc", "default_role": "viewer"},
    "sign_in_attempts": {"purpose": "oidc"},
    "people": {"email": "x@example.org"},
}
WHO = Query("who", (), "-- The tenant of this transaction.", "SELECT current_setting('app.current_tenant') AS tenant")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of tenants, its tenant's column, and its columns with their types."""

    name: str
    tenant: str
    columns: dict[str, str]

    def row(self, tenant_id: UUID) -> list[Any]:
        given = VALUES.get(self.name, {}) | {self.tenant: tenant_id}
        return [given[name] if name in given else BY_TYPE[kind] for name, kind in self.columns.items()]

    def insert(self) -> str:
        marks = ", ".join(f"${n}" for n in range(1, len(self.columns) + 1))
        names = ", ".join(f'"{name}"' for name in self.columns)
        return f"INSERT INTO {self.name} ({names}) VALUES ({marks})"


async def tables_of(connection: Any) -> list[Table]:
    rows = await connection.fetch(
        "SELECT c.relname, array_agg(a.attname ORDER BY a.attnum) AS names, array_agg(t.typname ORDER BY a.attnum) AS "
        "kinds FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "AND a.attgenerated = '' JOIN pg_type t ON t.oid = a.atttypid WHERE c.relnamespace = 'public'::regnamespace "
        "AND c.relkind IN ('r', 'p') AND NOT c.relispartition GROUP BY c.relname ORDER BY c.relname"
    )
    tables = []
    for row in rows:
        columns = dict(zip(row["names"], row["kinds"], strict=True))
        tenant = "id" if row["relname"] == "tenants" else "tenant_id"
        if tenant in columns and (tenant == "id" or columns[tenant] == "uuid"):
            tables.append(Table(row["relname"], tenant, columns))
    return tables


async def fill(settings: Settings, database: Database, superuser: str) -> list[Table]:
    """One row of ours in every table, whatever it refers to."""
    await Store(database, "walk").ensure_days({("self_hosted", MOMENT.date())})
    async with as_owner(superuser) as connection:
        tables = await tables_of(connection)
        await connection.execute("SET session_replication_role = replica")
        for table in tables:
            await connection.execute(table.insert(), *table.row(OURS))
    return tables


async def tried(connection: Any, text: str, *args: Any) -> int | str:
    """How many rows a statement touched, or the class of what refused it."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        status = await connection.execute(text, *args)
        return int(status.split()[-1])
    except asyncpg.PostgresError as error:
        return type(error).__name__
    finally:
        await transaction.rollback()


def superuser_of(settings: Settings, servers: Any) -> str:
    name = urlsplit(settings.owner_url).path.lstrip("/")
    return str(servers.folder.database_url("superuser", name))


async def test_the_application_reaches_no_row_of_another_tenant(
    settings: Settings, database: Database, servers_of_store: Any
) -> None:
    tables = await fill(settings, database, superuser_of(settings, servers_of_store))
    assert len(tables) >= 13
    leaks, operations = [], 0
    async with as_owner(settings.app_url) as connection:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(THEIRS))
        # Of objects with access lists, as one who may all in his own tenant.
        await connection.execute("SELECT set_config('app.current_grantees', '{role:owner,everyone}', false)")
        for table in tables:
            name, tenant = table.name, table.tenant
            for text in (
                f"SELECT * FROM {name}",
                f"SELECT * FROM {name} WHERE {tenant} = '{OURS}'",
                f"UPDATE {name} SET {tenant} = {tenant} WHERE {tenant} = '{OURS}'",
                f"UPDATE {name} SET {tenant} = '{THEIRS}'",
                f"DELETE FROM {name} WHERE {tenant} = '{OURS}'",
                f"TRUNCATE {name}",
            ):
                operations += 1
                outcome = await tried(connection, text)
                if outcome not in (0, "InsufficientPrivilegeError"):
                    leaks.append((name, text, outcome))
            operations += 1
            outcome = await tried(connection, table.insert(), *table.row(OURS))
            if outcome != "InsufficientPrivilegeError":
                leaks.append((name, "INSERT", outcome))
    assert leaks == []
    assert operations == 7 * len(tables)


@pytest.mark.parametrize("setting", [None, "", "nobody", "' OR true --"])
async def test_without_a_tenant_every_table_is_an_error_and_not_an_empty_answer(
    settings: Settings, database: Database, servers_of_store: Any, setting: str | None
) -> None:
    async with as_owner(superuser_of(settings, servers_of_store)) as connection:
        tables = await tables_of(connection)
    async with as_owner(settings.app_url) as connection:
        if setting is not None:
            await connection.execute("SELECT set_config('app.current_tenant', $1, false)", setting)
        outcomes = {table.name: await tried(connection, f"SELECT * FROM {table.name}") for table in tables}
    assert [name for name, outcome in outcomes.items() if isinstance(outcome, int)] == []


async def test_ten_thousand_transactions_of_fifty_tenants_with_errors_and_cancels_leave_the_pool_clean(
    database: Database, settings: Settings
) -> None:
    """The tenant of a transaction ends with it, however it ends."""
    tenants = [TenantId(uuid4()) for _ in range(50)]
    seen: list[tuple[UUID, str]] = []

    async def one(n: int) -> None:
        tenant = tenants[n % 50]
        async with database.as_tenant(tenant) as session:
            row = await session.fetchrow(WHO)
            assert row is not None
            seen.append((tenant, row["tenant"]))
            if n % 7 == 0:
                raise RuntimeError("the caller failed")
            if n % 5 == 0:
                await asyncio.sleep(0.01)

    waiting: set[asyncio.Task[None]] = set()
    for n in range(10_000):
        task = asyncio.create_task(one(n))
        waiting.add(task)
        if n % 11 == 0:
            asyncio.get_running_loop().call_later(0.001, task.cancel)
        if len(waiting) >= 60:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for finished in done:
                if not finished.cancelled():
                    finished.exception()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(seen) > 5_000
    assert [pair for pair in seen if str(pair[0]) != pair[1]] == []
    async with as_owner(settings.owner_url) as connection:
        held = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cloudmetrics app' "
            "AND state <> 'idle' AND datname = current_database()"
        )
    assert held == 0
