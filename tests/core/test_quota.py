"""The monthly quota: counted in the database, and never passed by more than one batch, however many processes take."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from core import accounts, quota
from core.audit import Author
from core.database import Database
from core.errors import DatabaseUnavailable, LogUnavailable, TooMany
from core.ingest import Delivery, Ingest
from core.keys import ApiKey
from core.queries import named
from core.quota import MonthQuota
from core.retention import Retention
from core.seen import SeenIds
from core.settings import Settings
from core.tenancy import Tenant, Tier
from core.valkey_log import ValkeyLog
from tests.conftest import free_port, make_key

ON_BOTH_STORES = True
LIMIT = 100_000
NOW_MS = int(time.time() * 1000)


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    """Of the tier whose quota is 100,000 events, 99,000 of them counted."""
    tenant = await accounts.create_tenant(database, slug=f"t-{uuid4()}", name="", tier=Tier.FREE)
    assert tenant.limits.events_per_month == LIMIT
    async with database.as_writer() as session:
        day = datetime.now(UTC).date()
        await session.execute(named("aggregate", "add_usage"), [tenant.id], [day], ["k"], [99_000], [0])
    return tenant


@pytest.fixture
async def key(settings: Settings, database: Database, tenant: Tenant) -> ApiKey:
    return (await make_key(database, settings, tenant))[0]


@pytest.fixture
async def seen(settings: Settings) -> AsyncIterator[SeenIds]:
    seen = SeenIds(settings.redis_url)
    yield seen
    await seen.close()


@pytest.fixture
async def quotas(settings: Settings) -> AsyncIterator[list[MonthQuota]]:
    """As many as there are processes, each with connections of its own."""
    databases = [Database(settings, pool_size=2) for _ in range(5)]
    yield [MonthQuota(database) for database in databases]
    for database in databases:
        await database.close()


def delivery(key: ApiKey, count: int, *, is_dry_run: bool = False) -> Delivery:
    body = json.dumps({"events": [{"type": "a"}] * count}).encode()
    return Delivery(key=key, month_usage=0, body=body, request_id="r", received_ms=NOW_MS, is_dry_run=is_dry_run)


async def taken_in_database(database: Database, tenant: Tenant) -> int:
    """As an exchange of nothing tells it."""
    async with database.as_tenant(tenant.id, is_write=True) as session:
        row = await session.fetchrow(quota.EXCHANGE, quota._month(NOW_MS), 0, 0, 0, LIMIT)
    assert row is not None
    return int(row["taken"])


async def use_up(one: MonthQuota, tenant: Tenant, batch: int) -> int:
    """How much one process gets out of a quota until it is refused."""
    taken = 0
    while True:
        try:
            await one.take(tenant, 0, NOW_MS, batch)
        except TooMany as refusal:
            assert refusal.code == "quota_exceeded" and refusal.retry_after > 0
            return taken
        taken += batch
        await asyncio.sleep(0)


@pytest.mark.parametrize("batch", [1, 37, 100])
async def test_processes_together_pass_the_limit_by_less_than_one_batch(
    quotas: list[MonthQuota], tenant: Tenant, database: Database, batch: int
) -> None:
    asking = [use_up(one, tenant, batch) for one in quotas for _ in range(4)]
    taken = 99_000 + sum(await asyncio.gather(*asking))
    assert taken < LIMIT + batch
    # What others still held when they were refused can be had once they give it back.
    await asyncio.gather(*(one.close() for one in quotas))
    taken += await use_up(MonthQuota(database), tenant, 1)
    assert LIMIT <= taken < LIMIT + batch


async def test_ways_in_that_append_side_by_side_keep_the_limit(
    quotas: list[MonthQuota], key: ApiKey, log: ValkeyLog, seen: SeenIds, database: Database, settings: Settings
) -> None:
    doors = [Ingest(database, log, seen, "each", Retention.of(settings), one) for one in quotas]

    async def send(door: Ingest) -> int:
        accepted = 0
        for _ in range(6):
            try:
                accepted += (await door.accept(delivery(key, 90))).accepted
            except TooMany:
                break
        return accepted

    accepted = 99_000 + sum(await asyncio.gather(*(send(door) for door in doors)))
    assert LIMIT - 5 * quota.LEAST_BLOCK < accepted < LIMIT + 90


async def test_what_is_not_spent_is_given_back_at_the_end(
    quotas: list[MonthQuota], tenant: Tenant, database: Database
) -> None:
    for one in quotas:
        await one.take(tenant, 0, NOW_MS, 10)
    assert await taken_in_database(database, tenant) == 99_000 + 5 * quota.LEAST_BLOCK
    await asyncio.gather(*(one.close() for one in quotas))
    assert await taken_in_database(database, tenant) == 99_050


class BrokenLog(ValkeyLog):
    async def append(self, *args: object, **options: object) -> None:  # type: ignore[override]
        raise LogUnavailable


async def test_a_dry_run_and_a_log_that_is_away_spend_nothing(
    quotas: list[MonthQuota], key: ApiKey, seen: SeenIds, log: ValkeyLog, database: Database, settings: Settings
) -> None:
    broken = BrokenLog(settings.redis_url, max_bytes=1, retention_hours=1)
    for some_log in (log, broken):
        door = Ingest(database, some_log, seen, "each", Retention.of(settings), quotas[0])
        await door.accept(delivery(key, 70, is_dry_run=True))
    with pytest.raises(LogUnavailable):
        await door.accept(delivery(key, 70))
    await broken.close()
    await quotas[0].close()
    assert await taken_in_database(database, key.tenant) == 99_000


async def test_with_the_database_away_what_was_left_is_spent_once_and_paid_later(
    settings: Settings, tenant: Tenant, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "AWAY_SECONDS", 0.0)
    away = Database(dataclasses.replace(settings, app_url=f"postgresql://a@127.0.0.1:{free_port()}/a"))
    one = MonthQuota(database, processes=2)
    await one.take(tenant, 99_000, NOW_MS, 100)
    one._database = away
    spent = 0
    with pytest.raises(DatabaseUnavailable, match="monthly quota"):
        while True:
            await one.take(tenant, 99_000, NOW_MS, 60)
            spent += 60
    # Of the 900 that were left, half is this process's, and the last batch may pass that.
    assert 450 <= spent < 450 + 60
    one._database = database
    await one.take(tenant, 99_000, NOW_MS, 100)
    await one.close()
    await away.close()
    assert await taken_in_database(database, tenant) == 99_000 + 100 + spent + 100


async def test_with_the_database_away_a_month_that_was_full_stays_full(settings: Settings, tenant: Tenant) -> None:
    away = Database(dataclasses.replace(settings, app_url=f"postgresql://a@127.0.0.1:{free_port()}/a"))
    with pytest.raises(DatabaseUnavailable):
        await MonthQuota(away).take(tenant, LIMIT, NOW_MS, 1)
    await away.close()


async def test_a_lower_tier_holds_at_once_and_a_higher_one_goes_on(quotas: list[MonthQuota], tenant: Tenant) -> None:
    one, pro = quotas[0], dataclasses.replace(tenant, tier=Tier.PRO)
    await one.take(pro, 0, NOW_MS, 1_500)
    with pytest.raises(TooMany):
        await one.take(tenant, 0, NOW_MS, 1)
    await one.take(pro, 0, NOW_MS, 1)


@pytest.mark.parametrize("batch", [10, 100])
async def test_a_lower_tier_while_batches_are_under_way_is_passed_by_at_most_one(
    quotas: list[MonthQuota], key: ApiKey, log: ValkeyLog, seen: SeenIds, database: Database, settings: Settings,
    batch: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Half of a hundred batches come by doors that know of the lower tier, at its last events."""
    # However slow this machine is: the database is there.
    monkeypatch.setattr(quota, "ASK_SECONDS", 30.0)
    pro = await accounts.change_tier(database, key.tenant, Tier.PRO, Author.operator(key.tenant.id))
    async with database.as_writer() as session:
        row = ([pro.id], [datetime.now(UTC).date()], ["k"], [LIMIT - 99_000 - 5], [0])
        await session.execute(named("aggregate", "add_usage"), *row)
    doors = [Ingest(database, log, seen, "each", Retention.of(settings), one) for one in quotas]

    async def send(n: int) -> tuple[Tier, int]:
        tenant = pro if n % 2 else key.tenant
        if n == 50:
            await accounts.change_tier(database, pro, Tier.FREE, Author.operator(pro.id))
        try:
            receipt = await doors[n % 5].accept(delivery(dataclasses.replace(key, tenant=tenant), batch))
            return tenant.tier, receipt.accepted
        except TooMany as refusal:
            assert refusal.code == "quota_exceeded" and "starts anew at" in refusal.message
            return tenant.tier, 0

    taken = await asyncio.gather(*(send(n) for n in range(100)))
    assert sum(count for tier, count in taken if tier is Tier.FREE) < 5 + batch
    assert sum(count for tier, count in taken if tier is Tier.PRO) == 50 * batch
    with pytest.raises(TooMany):
        await doors[0].accept(delivery(key, 1))
    # Nothing that the higher tier set aside is lost to the lower one.
    await asyncio.gather(*(one.close() for one in quotas))
    assert await taken_in_database(database, key.tenant) == LIMIT - 5 + sum(count for _, count in taken)


async def test_a_new_month_begins_anew(quotas: list[MonthQuota], tenant: Tenant) -> None:
    await use_up(quotas[0], tenant, 100)
    await quotas[0].take(tenant, 0, NOW_MS + 32 * 86_400_000, 100)


async def test_tiers_without_a_quota_never_ask(settings: Settings, tenant: Tenant) -> None:
    away = Database(dataclasses.replace(settings, app_url="postgresql://nobody@127.0.0.1:1/a"))
    await MonthQuota(away).take(dataclasses.replace(tenant, tier=Tier.ENTERPRISE), 0, NOW_MS, 10**9)
