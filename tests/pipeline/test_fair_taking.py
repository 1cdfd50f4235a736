"""A tenant's flood keeps nobody else waiting, though all are counted in the same partition."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from uuid import UUID, uuid4

import pytest

from core.database import as_owner
from core.errors import LogUnavailable
from core.eventlog import EventLog, Offset, Partition, Record
from core.events import encode_raw
from core.kafka.producer import partition_of_key
from core.partitioning import partition_of
from core.settings import Settings
from core.topics import raw_topic
from pipeline.pace import LEAST_AHEAD, MOST_AHEAD, PacedConsumer
from tests.pipeline.builders import raw_batch
from tests.pipeline.stored import Stored
from tests.pipeline.test_spread import any_log, any_settings, start_workers

__all__ = ["any_log", "any_settings"]

COUNTS = """SELECT count(*) FILTER (WHERE tenant_id = $1) AS flooding, count(*) FILTER (WHERE tenant_id = $2) AS quiet
FROM events"""
FLOOD, QUIET, EVENTS = 2000, 3, 20


def neighbours() -> tuple[UUID, UUID]:
    """Two tenants whose enriched records are in the same partition of either log."""
    one = uuid4()
    while True:
        other = uuid4()
        if all(place(one.bytes, 4) == place(other.bytes, 4) for place in (partition_of, partition_of_key)):
            return one, other


async def test_a_few_events_behind_a_flood_are_counted_long_before_it_ends(
    any_log: EventLog, any_settings: Settings, stored: Stored, tmp_path_factory: pytest.TempPathFactory
) -> None:
    flooding, quiet = neighbours()

    async def send(tenant_id: UUID, records: int) -> None:
        for _ in range(records):
            value = encode_raw(raw_batch(tenant_id, *({} for _ in range(EVENTS))))
            await any_log.append(raw_topic(tenant_id, "each"), tenant_id.bytes, value)

    await any_log.create_topic(raw_topic(quiet, "each"))
    await send(flooding, FLOOD)
    workers = start_workers(any_settings, tmp_path_factory.mktemp("fair") / "workers.log", 1)
    try:
        async with asyncio.timeout(180), as_owner(stored.url) as connection:
            while not (before := await connection.fetchrow(COUNTS, flooding, quiet))["flooding"]:
                await asyncio.sleep(0.05)
            await send(quiet, QUIET)
            while (row := await connection.fetchrow(COUNTS, flooding, quiet))["quiet"] < QUIET * EVENTS:
                await asyncio.sleep(0.05)
            # What was ahead already, and a few polls.
            assert row["flooding"] - before["flooding"] < (MOST_AHEAD + 200) * EVENTS < FLOOD * EVENTS / 2
            while (row := await connection.fetchrow(COUNTS, flooding, quiet))["flooding"] < FLOOD * EVENTS:
                await asyncio.sleep(0.1)
    finally:
        workers.terminate()
        workers.wait(30)


class Endless:
    """A consumer that always has ten records, and a next group that does one of them at each look."""

    def __init__(self) -> None:
        self.polled = 0
        self.behind = 0
        self.is_away = False

    async def poll(self, *, max_records: int, wait_seconds: float) -> list[Record]:
        self.polled += 10
        self.behind += 10
        return [Record(Partition("t"), Offset("1"), Offset("2"), b"", b"")] * 10

    async def lag(self, group: str, topics: re.Pattern[str]) -> dict[Partition, int]:
        if self.is_away:
            raise LogUnavailable
        return {Partition(group): self.behind}

    async def commit(self, offsets: Mapping[Partition, Offset]) -> None: ...
    async def rewind(self) -> None: ...
    async def close(self) -> None: ...


@pytest.fixture
async def endless() -> AsyncIterator[tuple[Endless, PacedConsumer]]:
    fake = Endless()
    yield fake, PacedConsumer(fake, fake, "next", re.compile("t"))  # type: ignore[arg-type]


async def test_nothing_is_polled_while_the_next_group_is_far_behind(endless: tuple[Endless, PacedConsumer]) -> None:
    source, paced = endless
    for _ in range(LEAST_AHEAD):
        await paced.poll(max_records=50, wait_seconds=0.001)
    assert source.polled == LEAST_AHEAD // 2 + 10
    source.behind = 5
    assert len(await paced.poll(max_records=50, wait_seconds=0.001)) == 10


async def test_a_next_group_that_does_not_move_stops_nobody_for_good(
    endless: tuple[Endless, PacedConsumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.pace.STUCK_SECONDS", 0.0)
    source, paced = endless
    for _ in range(LEAST_AHEAD):
        await paced.poll(max_records=50, wait_seconds=0.001)
    assert source.polled == LEAST_AHEAD * 10


async def test_a_lag_that_cannot_be_read_stops_nobody_for_good(
    endless: tuple[Endless, PacedConsumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, paced = endless
    source.is_away, source.behind = True, LEAST_AHEAD
    for _ in range(LEAST_AHEAD):
        await paced.poll(max_records=50, wait_seconds=0.001)
    assert source.polled == LEAST_AHEAD // 2 + 10
    monkeypatch.setattr("pipeline.pace.STUCK_SECONDS", 0.0)
    assert await paced.poll(max_records=50, wait_seconds=0.001)
