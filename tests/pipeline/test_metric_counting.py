"""A tenant's own metrics are counted with its events: what a naive count gives, once, at three resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from core.database import Database, as_owner
from core.eventlog import Offset, Partition
from core.events import EnrichedEvent
from core.filters import EventFilter
from core.metric_definitions import MAX_VALUES_AN_HOUR, OVERFLOW, EventAggregate
from core.metrics import MetricKind
from core.rollups import Resolution
from core.tenancy import Tenant
from core.topics import ENRICHED
from pipeline.aggregate import updates_of
from pipeline.bridge import notice_of
from pipeline.counted_metrics import CountedMetrics
from pipeline.prepared import prepare
from pipeline.store import Counted, Redefined, Store
from tests.pipeline.builders import batch_of, enriched
from tests.pipeline.own_metrics import DAY_MS, DEFINITIONS, assert_equal, define, make_events, stored_cells

ON_BOTH_STORES = True


class Counting:
    """One worker on one partition: counts events of a tenant, and learns as the aggregate worker does."""

    def __init__(self, database: Database, tenant: Tenant, shard: int = 0) -> None:
        self.store = Store(database, f"group-{uuid4()}")
        self.metrics: dict[Any, CountedMetrics] = {}
        self._tenant = tenant
        self._partition = Partition(ENRICHED, shard)
        self._at = 0

    async def count(self, events: Sequence[EnrichedEvent]) -> Counted:
        batch = batch_of(self._tenant.id, *events, retention_class=self._tenant.tier.value)
        await self.store.ensure_partitions([batch])
        while True:
            prepared = await prepare([batch], self.metrics)
            try:
                place = Offset(f"{self._at}-0")
                counted = await self.store.transact(self._partition, prepared, place, self._after)
            except Redefined as changed:
                self.metrics.update(changed.metrics)
                continue
            self._at += 1
            return counted

    def _after(self, counted: Counted) -> tuple[Offset, bytes]:
        return Offset(f"{self._at + 1}-0"), b""


async def test_each_kind_is_what_a_naive_count_gives(database: Database, superuser_url: str, tenant: Tenant) -> None:
    versions = {key: await define(superuser_url, tenant, key, *made) for key, made in DEFINITIONS.items()}
    events = make_events(1, 600)
    for shard in (0, 1):
        worker = Counting(database, tenant, shard)
        mine = events[shard::2]
        # Some come again, within a batch and in a later one.
        await worker.count([*mine[:120], *mine[:10]])
        await worker.count(mine[100:])
        await worker.count(mine[:50])
    for key, version_id in versions.items():
        await assert_equal(superuser_url, key, version_id, events)


async def test_a_worker_that_knows_nothing_of_a_metric_is_told_in_the_transaction(
    database: Database, superuser_url: str, tenant: Tenant
) -> None:
    worker = Counting(database, tenant)
    old, new, last = make_events(2, 40), make_events(3, 40), make_events(4, 40)
    await worker.count(old)
    assert worker.metrics == {}
    first = await define(superuser_url, tenant, "orders", *DEFINITIONS["orders"])
    counted = await worker.count(new)
    assert counted.new_events[tenant.id] == 40
    await assert_equal(superuser_url, "orders", first, new)
    second = await define(superuser_url, tenant, "orders2", *DEFINITIONS["orders"], former=first)
    await worker.count(last)
    await assert_equal(superuser_url, "orders", first, new)
    await assert_equal(superuser_url, "orders", second, last)
    async with as_owner(superuser_url) as connection:
        rows = await connection.fetch(
            "SELECT metrics_revision, count(*) FROM events WHERE tenant_id = $1 GROUP BY 1 ORDER BY 1", tenant.id
        )
    assert [tuple(row) for row in rows] == [(0, 40), (1, 40), (2, 40)]


async def test_word_of_a_change_names_the_version_and_its_minutes(
    database: Database, superuser_url: str, tenant: Tenant
) -> None:
    version_id = await define(superuser_url, tenant, "orders", *DEFINITIONS["orders"])
    worker = Counting(database, tenant)
    moments = (DAY_MS, DAY_MS + 600_000)
    counted = await worker.count([enriched(type="order", timestamp_ms=at) for at in moments])
    (update,) = updates_of(counted, 0, Offset("1-0"), DAY_MS / 1000)
    assert notice_of(update).metrics == [(str(version_id), DAY_MS // 1000, DAY_MS // 1000 + 600)]


async def test_values_beyond_an_hours_room_count_as_other_and_totals_stay_exact(
    database: Database, superuser_url: str, tenant: Tenant
) -> None:
    aggregate = EventAggregate(filter=EventFilter(("crawl",)), dimensions=("page_path",))
    version_id = await define(superuser_url, tenant, "crawled", MetricKind.COUNT, aggregate)
    room, more = MAX_VALUES_AN_HOUR, 70

    def crawl(first: int, last: int) -> list[EnrichedEvent]:
        return [
            enriched(type="crawl", timestamp_ms=DAY_MS + n % 60 * 60_000, page_path=f"/{n}") for n in range(first, last)
        ]

    worker = Counting(database, tenant)
    await worker.count(crawl(0, room - 20))
    # Another process on the same partition knows of the hour what the tables say.
    worker.store = Store(database, worker.store._consumer)
    await worker.count(crawl(room - 50, room + more))
    await worker.count(crawl(room + more - 10, room + more + 10))
    brought = room + more + 10
    for resolution in Resolution:
        cells = await stored_cells(superuser_url, version_id, resolution)
        totals = sum(cell.count for place, cell in cells.items() if place[0] == "")
        values = {place[1] for place in cells if place[0] == "page_path"}
        others = sum(cell.count for place, cell in cells.items() if place[:2] == ("page_path", OVERFLOW))
        sums = sum(cell.count for place, cell in cells.items() if place[0] == "page_path")
        counted = brought + 30 + 10
        assert (totals, sums, others, len(values)) == (counted, counted, counted - room - 30, room + 1), resolution
        async with as_owner(superuser_url) as connection:
            built_in = await connection.fetchrow(
                f"SELECT count(DISTINCT value), sum(count), sum(count) FILTER (WHERE value = '{OVERFLOW}') "
                f"FROM rollup_{resolution.value} WHERE tenant_id = $1 AND dimension = 'page_path'",
                tenant.id,
            )
        assert tuple(built_in) == (room + 1, counted, counted - room - 30)
    async with as_owner(superuser_url) as connection:
        told = await connection.fetch(
            "SELECT reason, sum(count)::int FROM ingest_1h WHERE tenant_id = $1 AND outcome = 'overflow' GROUP BY 1 "
            "ORDER BY 1",
            tenant.id,
        )
    left_out = counted - room - 30
    assert [tuple(row) for row in told] == [("crawled/page_path", left_out), ("page_path", left_out)]


async def test_a_value_that_was_let_in_stays_in(database: Database, superuser_url: str, tenant: Tenant) -> None:
    aggregate = EventAggregate(filter=EventFilter(("crawl",)), dimensions=("properties.of",))
    version_id = await define(superuser_url, tenant, "of", MetricKind.COUNT, aggregate)
    worker = Counting(database, tenant)
    events = [
        enriched(type="crawl", timestamp_ms=DAY_MS, properties=b'{"of": "%d"}' % n) for n in range(MAX_VALUES_AN_HOUR)
    ]
    await worker.count(events)
    again = [enriched(type="crawl", timestamp_ms=DAY_MS, properties=b'{"of": "%d"}' % n) for n in (3, 4, 5_000)]
    await worker.count(again)
    cells = await stored_cells(superuser_url, version_id, Resolution.MINUTE)
    at = DAY_MS // 1000
    assert cells["properties.of", "3", at, False].count == 2
    assert cells["properties.of", OVERFLOW, at, False].count == 1


@pytest.mark.parametrize("length", [201, 3_000])
async def test_a_long_value_has_a_place_in_a_key(
    database: Database, superuser_url: str, tenant: Tenant, length: int
) -> None:
    names = tuple(f"properties.{letter}" for letter in "abcdef")
    aggregate = EventAggregate(filter=EventFilter(("long",)), dimensions=names, combinations=(names,))
    version_id = await define(superuser_url, tenant, "long", MetricKind.COUNT, aggregate)
    text = "".join(chr(0x4E00 + (n * 7919) % 20_000) for n in range(length))
    properties = ("{" + ",".join(f'"{letter}": "{text}"' for letter in "abcdef") + "}").encode()
    await Counting(database, tenant).count([enriched(type="long", timestamp_ms=DAY_MS, properties=properties)])
    cells = await stored_cells(superuser_url, version_id, Resolution.HOUR)
    assert cells["properties.a", text[:200], DAY_MS // 1000, False].count == 1
    assert cells[",".join(names), OVERFLOW, DAY_MS // 1000, False].count == 1
