"""The doors hold: one tenant's rows are nobody else's, and without a tenant there is an error, not silence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

from core import accounts
from core.database import BEGIN_READING, Database
from core.errors import DatabaseUnavailable, Misconfigured
from core.keys import new_key_id
from core.queries import named, parse_blocks
from core.settings import Settings
from core.tenancy import Tenant, Tier
from tests.conftest import make_key

ON_BOTH_STORES = True

COUNT_KEYS = parse_blocks("-- count_keys()\n-- Keys that are seen.\nSELECT count(*) AS n FROM api_keys;", "test")[
    "count_keys"
]

LOCK = parse_blocks("-- lock(key)\n-- A lock until the end.\nSELECT pg_advisory_xact_lock($1);", "test")["lock"]

STAND_BY = parse_blocks(
    "-- stand_by()\n-- No writes.\nSELECT set_config('transaction_read_only', 'on', true);", "test"
)["stand_by"]


async def test_a_tenant_sees_its_own_keys_only(database: Database, settings: Settings, tenant: Tenant) -> None:
    other = await accounts.create_tenant(database, slug="other", name="", tier=Tier.FREE)
    await make_key(database, settings, tenant)
    await make_key(database, settings, other)
    async with database.as_tenant(tenant.id) as session:
        row = await session.fetchrow(COUNT_KEYS)
    assert row is not None and row["n"] == 1


async def test_without_a_tenant_there_is_an_error(database: Database, settings: Settings, tenant: Tenant) -> None:
    await make_key(database, settings, tenant)
    async with database.as_tenant(tenant.id) as session:
        await session.fetchrow(COUNT_KEYS)
    with pytest.raises(Exception, match=r"tenant|uuid"):
        async with database._session("app", BEGIN_READING, seconds=5) as session:
            await session.fetchrow(COUNT_KEYS)


async def test_what_fails_or_is_cancelled_leaves_nothing_behind(settings: Settings, tenant: Tenant) -> None:
    """One connection, so that the next borrower has the one that something went wrong on."""
    database = Database(settings, pool_size=1)
    insert = named("api_keys", "insert_key")
    row = (tenant.id, new_key_id(), "secret", "lost", [], [], False, None)

    async def write_and_wait() -> None:
        async with database.as_tenant(tenant.id, is_write=True) as session:
            await session.execute(insert, *row)
            await asyncio.sleep(60)

    for _ in range(3):
        task = asyncio.create_task(write_and_wait())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ZeroDivisionError):
            async with database.as_tenant(tenant.id, is_write=True) as session:
                await session.execute(insert, *row)
                raise ZeroDivisionError
        async with database.as_tenant(tenant.id) as session:
            found = await session.fetchrow(COUNT_KEYS)
        assert found is not None and found["n"] == 0
    await database.close()


async def test_reading_cannot_write(database: Database, tenant: Tenant) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with database.as_tenant(tenant.id) as session:
            await session.execute(named("api_keys", "revoke_key"), tenant.id, "key")


async def test_a_server_that_takes_no_writes_any_more_is_away_and_its_connection_given_up(settings: Settings) -> None:
    """As after a fail-over, when the connection is to what has become the standby."""
    database = Database(settings, pool_size=1)
    touch = named("sessions", "touch_session")
    with pytest.raises(DatabaseUnavailable):
        async with database.as_doorkeeper(is_write=True) as session:
            first = session._connection.get_server_pid()
            await session.execute(STAND_BY)
            await session.execute(touch, uuid4())
    async with database.as_doorkeeper(is_write=True) as session:
        assert session._connection.get_server_pid() != first
        await session.execute(touch, uuid4())
    await database.close()


async def test_a_role_that_could_bypass_is_refused(settings: Settings) -> None:
    database = Database(replace(settings, app_url=settings.owner_url))
    with pytest.raises(Misconfigured, match="owns tables"):
        async with database._session("app", BEGIN_READING, seconds=5):
            pass
    await database.close()


async def test_a_server_that_is_away_is_said_so(settings: Settings) -> None:
    database = Database(replace(settings, app_url="postgresql://x@/x?host=/nonexistent"))
    with pytest.raises(DatabaseUnavailable):
        async with database._session("app", BEGIN_READING, seconds=5):
            pass
    await database.close()


@pytest.mark.parametrize("door", ["tenant", "doorkeeper"])
async def test_of_two_who_wait_for_each_other_one_is_told_to_send_it_again(
    database: Database, tenant: Tenant, door: str
) -> None:
    both_hold = asyncio.Barrier(2)

    async def take(first: int, second: int) -> None:
        is_tenant = door == "tenant"
        opened = database.as_tenant(tenant.id, is_write=True) if is_tenant else database.as_doorkeeper(is_write=True)
        async with opened as session:
            await session.execute(LOCK, first)
            await both_hold.wait()
            await session.execute(LOCK, second)

    outcomes = await asyncio.gather(take(1, 2), take(2, 1), return_exceptions=True)
    (refusal,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(refusal, DatabaseUnavailable) and "again" in refusal.message


async def test_a_taken_slug_is_refused_without_telling_whose(database: Database, tenant: Tenant) -> None:
    with pytest.raises(Exception, match="is taken"):
        await accounts.create_tenant(database, slug=tenant.slug, name="", tier=Tier.FREE)
