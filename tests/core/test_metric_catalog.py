"""What a process knows of a tenant's metrics: soon, once for all who wait, and when the database is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.database import Database
from core.errors import DatabaseUnavailable
from core.metric_catalog import MetricCatalog
from core.metric_checks import Definition
from core.metric_store import MetricDraft, MetricStore
from core.metrics import MetricKind
from core.settings import Settings
from core.tenancy import Principal, Tenant
from tests.core.members import add_member
from tests.resolvers.examples_run import CountingDatabase

COUNT = Definition(MetricKind.COUNT)


@pytest.fixture
async def maker(database: Database, tenant: Tenant) -> Principal:
    return await add_member(database, tenant)


async def define(database: Database, maker: Principal, key: str) -> None:
    await MetricStore(database, maker, "request").create(MetricDraft(key=key, definition=COUNT))


async def test_what_another_process_makes_is_found_by_its_key_at_once_and_listed_within_a_second(
    database: Database, maker: Principal, monkeypatch: Any
) -> None:
    catalog, tenant_id = MetricCatalog(database), maker.tenant.id
    assert await catalog.find(tenant_id, "orders") is None
    await define(database, maker, "orders")
    monkeypatch.setattr("core.metric_catalog.MISSING_SECONDS", 0.0)
    found = await catalog.find(tenant_id, "orders")
    assert found is not None and found.kind is MetricKind.COUNT
    await define(database, maker, "refunds")
    assert len((await catalog.of(tenant_id)).own) == 1
    monkeypatch.setattr("core.metric_catalog.KNOWN_SECONDS", 0.0)
    assert len((await catalog.of(tenant_id)).own) == 2


async def test_what_this_process_makes_is_listed_at_once(database: Database, maker: Principal) -> None:
    catalog, tenant_id = MetricCatalog(database), maker.tenant.id
    await catalog.of(tenant_id)
    await define(database, maker, "orders")
    catalog.forget(tenant_id)
    assert [metric.key for metric in (await catalog.of(tenant_id)).own] == ["orders"]


async def test_those_who_wait_share_one_look_up_and_what_stayed_the_same_is_read_once(
    settings: Settings, database: Database, maker: Principal, monkeypatch: Any
) -> None:
    await define(database, maker, "orders")
    counting = CountingDatabase(settings)
    catalog, tenant_id = MetricCatalog(counting), maker.tenant.id
    found = await asyncio.gather(*(catalog.of(tenant_id) for _ in range(20)))
    assert counting.statements == 1 and all(one is found[0] for one in found)
    monkeypatch.setattr("core.metric_catalog.KNOWN_SECONDS", 0.0)
    assert await catalog.of(tenant_id) is found[0] and counting.statements == 2
    await counting.close()


async def test_a_reader_that_leaves_takes_the_look_up_from_nobody(database: Database, maker: Principal) -> None:
    catalog, tenant_id = MetricCatalog(database), maker.tenant.id
    first, second = (asyncio.create_task(catalog.of(tenant_id)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).own == []


async def test_while_the_database_is_away_what_is_known_serves_and_what_is_not_is_said(
    database: Database, maker: Principal, monkeypatch: Any
) -> None:
    await define(database, maker, "orders")
    catalog, tenant_id = MetricCatalog(database), maker.tenant.id
    known = await catalog.of(tenant_id)
    away = Database(Settings(app_url="postgresql://nobody@127.0.0.1:1/none"))
    monkeypatch.setattr("core.metric_catalog.KNOWN_SECONDS", 0.0)
    monkeypatch.setattr(catalog, "_database", away)
    assert await catalog.of(tenant_id) is known
    with pytest.raises(DatabaseUnavailable):
        await MetricCatalog(away).of(tenant_id)
