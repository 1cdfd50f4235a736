"""What is past its time is dropped, and nothing else; what it was counted in stays."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest

from core import accounts
from core.database import Database
from core.eventlog import Offset, Partition
from core.events import encode_enriched
from core.ingest import Delivery, EventStatus, Ingest
from core.metric_catalog import MetricCatalog
from core.metric_definitions import EventAggregate
from core.metrics import MetricKind
from core.quota import MonthQuota
from core.retention import Retention
from core.rollups import Resolution
from core.seen import SeenIds
from core.settings import Settings
from core.tenancy import Tenant, Tier
from core.topics import ENRICHED
from core.valkey_log import ValkeyLog
from pipeline.aggregate import Aggregator
from pipeline.prepared import prepare
from pipeline.retention import RetentionKeeper
from pipeline.store import Store
from pipeline.worker import run_worker
from query.engine import QueryEngine
from query.planner import Source
from query.question import Interval, MetricQuestion
from tests.conftest import make_key
from tests.pipeline.builders import NOW_MS, batch_of, enriched
from tests.pipeline.own_metrics import define, stored_cells
from tests.pipeline.test_metric_counting import Counting

ON_BOTH_STORES = True

DAY_MS = 86_400_000
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)


@pytest.fixture
async def free(database: Database) -> Tenant:
    return await accounts.create_tenant(database, slug=f"free-{uuid4()}", name="", tier=Tier.FREE)


@pytest.fixture
def keeper(database: Database, settings: Settings) -> RetentionKeeper:
    return RetentionKeeper(database, Retention.of(settings))


async def count(database: Database, tenant: Tenant, *days_ago: int) -> None:
    """One event on each of some days."""
    store = Store(database, f"group-{uuid4()}")
    events = [enriched(timestamp_ms=NOW_MS - days * DAY_MS) for days in days_ago]
    batch = msgspec.structs.replace(batch_of(tenant.id, *events), retention_class=tenant.tier.value)
    await store.ensure_partitions([batch])
    await store.transact(Partition(ENRICHED), await prepare([batch]), Offset("0"), lambda _: (Offset("1"), b""))


async def total(
    settings: Settings, database: Database, tenant: Tenant, days: int, **more: object
) -> tuple[object, ...]:
    """What is counted of the last days, where it was read, and what is said about it."""

    async def fresh_until() -> datetime:
        return NOW + timedelta(days=9)

    engine = QueryEngine(database, MetricCatalog(database), Retention.of(settings), fresh_until)
    start = NOW - timedelta(days=days)
    asked = {"metric": "events", "from_": start, "to": NOW + timedelta(hours=1), "interval": Interval.DAY, **more}
    answer = await engine.answer(tenant, MetricQuestion(**asked))  # type: ignore[arg-type]
    warned = [warning.code for warning in answer.warnings]
    return sum(series.total or 0 for series in answer.columns.series), answer.source, warned


RAW = {"group_by": ("browser", "os")}


async def test_old_events_go_by_class_and_what_they_were_counted_in_stays(
    settings: Settings, database: Database, keeper: RetentionKeeper, free: Tenant, tenant: Tenant
) -> None:
    await count(database, free, 0, 29, 33, 40, 400)
    await count(database, tenant, 0, 29, 33, 40, 400)
    assert len(await keeper.drop_old(NOW)) >= 2
    assert await keeper.drop_old(NOW) == []
    assert await total(settings, database, free, 30, **RAW) == (2, Source.RAW, [])
    assert await total(settings, database, free, 45, **RAW) == (2, Source.RAW, ["beyond_retention"])
    assert await total(settings, database, free, 45) == (4, Source.ROLLUP_1H, [])
    assert await total(settings, database, tenant, 450, **RAW) == (5, Source.RAW, [])


async def test_old_rollups_go_and_the_next_coarser_one_answers(
    settings: Settings, database: Database, keeper: RetentionKeeper, free: Tenant, tenant: Tenant
) -> None:
    for owner in (free, tenant):
        await count(database, owner, 0, 100, 400)
    assert await keeper.forget_rollups(NOW) >= 9 * (2 + 2 + 1)
    assert await keeper.forget_rollups(NOW) == 0
    assert await total(settings, database, free, 120) == (2, Source.ROLLUP_1H, [])
    assert await total(settings, database, free, 420) == (2, Source.ROLLUP_1H, ["beyond_retention"])
    week = {"from_": NOW - timedelta(days=101), "to": NOW - timedelta(days=99), "interval": Interval.FIVE_MINUTES}
    assert await total(settings, database, free, 0, **week) == (0, Source.ROLLUP_5M, ["beyond_retention"])
    assert await total(settings, database, tenant, 420) == (3, Source.ROLLUP_1H, [])


async def test_cells_of_own_metrics_go_as_rollups_do_and_those_of_an_ended_version_all(
    database: Database, superuser_url: str, keeper: RetentionKeeper, free: Tenant, tenant: Tenant
) -> None:
    aggregate = EventAggregate(dimensions=("country",))
    versions = {
        owner.id: await define(superuser_url, owner, "all", MetricKind.COUNT, aggregate) for owner in (free, tenant)
    }
    for owner in (free, tenant):
        worker = Counting(database, owner)
        await worker.count([enriched(timestamp_ms=NOW_MS - days * DAY_MS) for days in (0, 20, 100, 400)])

    async def left(owner: Tenant) -> list[int]:
        cells = [await stored_cells(superuser_url, versions[owner.id], resolution) for resolution in Resolution]
        return [len(found) for found in cells]

    assert await keeper.forget_metrics(NOW) == 2 * (2 + 2 + 1)
    assert (await left(free), await left(tenant)) == ([4, 4, 6], [8, 8, 8])
    await define(superuser_url, tenant, "all2", MetricKind.COUNT, aggregate, former=versions[tenant.id])
    assert await keeper.forget_metrics(NOW) == 0
    assert await keeper.forget_metrics(datetime.now(UTC) + timedelta(hours=2)) == 24
    assert (await left(free), await left(tenant)) == ([4, 4, 6], [0, 0, 0])


async def test_an_event_of_a_dropped_day_is_refused_with_the_reason(
    settings: Settings, database: Database, log: ValkeyLog, free: Tenant, tenant: Tenant
) -> None:
    seen = SeenIds(settings.redis_url)
    ingest = Ingest(database, log, seen, "each", Retention.of(settings), MonthQuota(database))
    old = (NOW - timedelta(days=32)).isoformat()
    body = msgspec.json.encode({"historical": True, "events": [{"type": "a", "timestamp": old}, {"type": "b"}]})
    answers = {}
    for owner in (free, tenant):
        key, _ = await make_key(database, settings, owner)
        delivery = Delivery(key=key, month_usage=0, body=body, request_id="r", received_ms=NOW_MS)
        answers[owner] = (await ingest.accept(delivery)).results
    await seen.close()
    refused, taken = answers[free]
    assert (refused.status, refused.code, refused.field) == ("rejected", "timestamp_out_of_range", "timestamp")
    assert "dropped" in refused.message and taken.status is EventStatus.ACCEPTED
    assert [result.status for result in answers[tenant]] == [EventStatus.ACCEPTED] * 2


async def test_an_event_that_was_accepted_before_its_day_was_dropped_is_counted(
    settings: Settings, database: Database, log: ValkeyLog, keeper: RetentionKeeper, free: Tenant
) -> None:
    """Its worker remembers the day's table, which is gone."""
    worker, stop = Aggregator(database, log).worker(), asyncio.Event()
    running = asyncio.create_task(run_worker(worker, stop))
    for expected in (1, 2):
        event = enriched(timestamp_ms=NOW_MS - 35 * DAY_MS)
        batch = msgspec.structs.replace(batch_of(free.id, event), retention_class="free")
        await log.append(ENRICHED, free.id.bytes, encode_enriched(batch))
        async with asyncio.timeout(30):
            while (await total(settings, database, free, 45))[0] != expected:
                await asyncio.sleep(0.05)
        assert await keeper.drop_old(NOW)
    stop.set()
    await running
