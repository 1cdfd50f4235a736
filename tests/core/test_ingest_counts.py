"""What the doors refused, on its way into the tables: at most once, bounded, and told to live readers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from core import outcomes
from core.accounts import create_tenant
from core.database import Database, Session
from core.errors import BadInput, DatabaseUnavailable, TooMany
from core.ingest import Delivery, Ingest
from core.ingest_counts import CountFlusher, add_counts
from core.keys import ApiKey
from core.live import LiveBroadcast
from core.outcomes import IngestCounts, Outcome, cell_of
from core.queries import Query
from core.quota import MonthQuota
from core.retention import Retention
from core.rollups import decode_notice
from core.seen import SeenIds
from core.settings import Settings
from core.tenancy import Tenant, TenantId, Tier
from core.topics import live_channel
from core.valkey_log import ValkeyLog
from tests.conftest import free_port, make_key
from tests.pipeline.builders import NOW_MS

TOTALS = Query(
    "totals", (), "-- What is counted of the tenant.",
    "SELECT outcome, reason, key_id, sum(count)::int FROM ingest_1m "
    "WHERE tenant_id = current_setting('app.current_tenant')::uuid GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
)  # fmt: skip


async def totals(database: Database, tenant: Tenant) -> dict[tuple[str, str], int]:
    """By outcome and reason."""
    async with database.as_tenant(tenant.id) as session:
        return {(row[0], row[1]): row[3] for row in await session.fetch(TOTALS)}


@pytest.fixture
async def live(settings: Settings) -> AsyncIterator[LiveBroadcast]:
    async with LiveBroadcast(settings.redis_url) as live:
        yield live


def note(counts: IngestCounts, tenant_id: TenantId, reason: str = "invalid_type", count: int = 1) -> None:
    counts.note(cell_of(tenant_id, NOW_MS, Outcome.REJECTED, reason, "key_a"), count)


async def test_counts_of_many_tenants_go_in_one_flush_and_readers_are_told(
    database: Database, live: LiveBroadcast, tenant: Tenant
) -> None:
    counts = IngestCounts()
    for _ in range(3):
        note(counts, tenant.id)
    note(counts, tenant.id, "rate_limited", 7)
    flusher = CountFlusher(database, counts, live)
    async with live.subscribe(live_channel(tenant.id)) as reader:
        await flusher.flush()
        while not (text := await reader.next()):
            continue
    assert decode_notice(text).is_of_ingest
    await flusher.flush()
    assert await totals(database, tenant) == {("rejected", "invalid_type"): 3, ("rejected", "rate_limited"): 7}


async def test_what_was_never_sent_is_kept_and_added_later(
    settings: Settings, database: Database, live: LiveBroadcast, tenant: Tenant
) -> None:
    away = Database(dataclasses.replace(settings, doorkeeper_url=f"postgresql://a@127.0.0.1:{free_port()}/a"))
    counts = IngestCounts()
    note(counts, tenant.id, count=5)
    await CountFlusher(away, counts, live).flush()
    note(counts, tenant.id)
    await CountFlusher(database, counts, live).flush()
    await away.close()
    assert await totals(database, tenant) == {("rejected", "invalid_type"): 6}


class LostAnswer(Database):
    """Commits, and never says so."""

    @asynccontextmanager
    async def as_doorkeeper(self, *, is_write: bool = False) -> AsyncIterator[Session]:
        async with super().as_doorkeeper(is_write=is_write) as session:
            yield session
        raise DatabaseUnavailable


async def test_what_may_have_been_added_is_not_added_again(
    settings: Settings, database: Database, live: LiveBroadcast, tenant: Tenant
) -> None:
    unsure = LostAnswer(settings)
    counts = IngestCounts()
    note(counts, tenant.id, count=5)
    for _ in range(2):
        await CountFlusher(unsure, counts, live).flush()
    await unsure.close()
    assert await totals(database, tenant) == {("rejected", "invalid_type"): 5}


async def test_a_process_that_stops_adds_what_it_has(database: Database, live: LiveBroadcast, tenant: Tenant) -> None:
    counts = IngestCounts()
    async with CountFlusher(database, counts, live).running():
        note(counts, tenant.id)
    assert await totals(database, tenant) == {("rejected", "invalid_type"): 1}


async def test_a_cell_beyond_the_room_there_is_is_lost_and_its_number_known(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "MAX_CELLS", 2)
    counts = IngestCounts()
    for reason in ("a", "b", "c", "a"):
        note(counts, tenant.id, reason, 2)
    assert sorted((cell.reason, number) for cell, number in counts.take().items()) == [("a", 4), ("b", 2)]
    assert (counts.forget_lost(), counts.forget_lost()) == (2, 0)


async def test_whoever_adds_at_the_same_time_adds_up(database: Database, tenant: Tenant) -> None:
    async def add(reasons: str) -> None:
        async with database.as_doorkeeper(is_write=True) as session:
            cells = {cell_of(tenant.id, NOW_MS, Outcome.REJECTED, reason, "k"): 1 for reason in reasons}
            await add_counts(session, cells)

    await asyncio.gather(*(add("abc" if n % 2 else "cba") for n in range(20)))
    assert await totals(database, tenant) == {("rejected", reason): 20 for reason in "abc"}


@pytest.fixture
async def way_in(settings: Settings, database: Database, log: ValkeyLog) -> AsyncIterator[tuple[Ingest, IngestCounts]]:
    seen, counts = SeenIds(settings.redis_url), IngestCounts()
    yield Ingest(database, log, seen, "each", Retention.of(settings), MonthQuota(database), counts), counts
    await seen.close()


def delivery(key: ApiKey, events: Any, *, is_dry_run: bool = False) -> Delivery:
    body = events if isinstance(events, bytes) else json.dumps({"events": events}).encode()
    return Delivery(key=key, month_usage=0, body=body, request_id="r", received_ms=NOW_MS, is_dry_run=is_dry_run)


def noted(counts: IngestCounts) -> dict[tuple[str, str], int]:
    return {(cell.outcome.value, cell.reason): number for cell, number in counts.take().items()}


async def test_the_way_in_counts_each_event_that_it_does_not_take_by_its_code(
    settings: Settings, database: Database, tenant: Tenant, way_in: tuple[Ingest, IngestCounts]
) -> None:
    ingest, counts = way_in
    key, _ = await make_key(database, settings, tenant)
    good = {"type": "a", "id": "0190b6f0-7e5a-7000-8000-2f1d8f6f4a11"}
    await ingest.accept(delivery(key, [good, {"type": "b"}]))
    assert noted(counts) == {}
    await ingest.accept(
        delivery(key, [good, good, {"type": ""}, {"type": "?"}, {"type": "a", "id": "x"}, {"type": "c"}])
    )
    assert noted(counts) == {
        ("duplicates", "taken_before"): 2, ("rejected", "invalid_name"): 2, ("rejected", "invalid_id"): 1,
    }  # fmt: skip
    with pytest.raises(BadInput):
        await ingest.accept(delivery(key, b"{"))
    assert noted(counts) == {("rejected", "invalid_json"): 1}
    await ingest.accept(delivery(key, [good, {"type": ""}], is_dry_run=True))
    assert noted(counts) == {}


async def test_events_over_the_quota_are_counted_all(
    settings: Settings, database: Database, way_in: tuple[Ingest, IngestCounts]
) -> None:
    ingest, counts = way_in
    free = await create_tenant(database, slug=f"q-{free_port()}", name="", tier=Tier.FREE)
    key, _ = await make_key(database, settings, free)
    await ingest._quota.take(free, 0, NOW_MS, 100_000)
    with pytest.raises(TooMany):
        await ingest.accept(delivery(key, [{"type": "a"}] * 30))
    assert noted(counts) == {("rejected", "quota_exceeded"): 30}
