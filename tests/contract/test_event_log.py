"""What every event log must do; a later one joins by a fixture of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from core.errors import LogFull, LogUnavailable
from core.eventlog import EventLog, Offset, Partition, Record
from core.settings import Settings
from core.valkey_log import ValkeyLog


@pytest.fixture(params=["valkey"])
async def any_log(settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[EventLog]:
    log = ValkeyLog(settings.redis_url, max_bytes=256 * 1024 * 1024, retention_hours=72)
    yield log
    await log.close()


def matches(topic: str) -> bool:
    return topic.startswith("contract.")


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return f"contract.{abs(hash(request.node.name))}"


async def take(log: EventLog, topic: str, group: str, count: int, **options: object) -> tuple[object, list[Record]]:
    consumer = log.consume(group, lambda name: name == topic, **options)  # type: ignore[arg-type]
    records: list[Record] = []
    for _ in range(40):
        records += await consumer.poll(max_records=count - len(records), wait_seconds=0.2)
        if len(records) >= count:
            break
    return consumer, records


async def fill(log: EventLog, topic: str, count: int) -> None:
    for n in range(count):
        await log.append(topic, b"key", str(n).encode())


async def test_records_come_in_order_with_their_keys(any_log: EventLog, topic: str) -> None:
    await fill(any_log, topic, 20)
    consumer, records = await take(any_log, topic, "g", 20)
    assert [record.value for record in records] == [str(n).encode() for n in range(20)]
    assert {record.key for record in records} == {b"key"}
    await consumer.close()  # type: ignore[attr-defined]


async def test_what_was_not_committed_comes_again_to_the_next_member(any_log: EventLog, topic: str) -> None:
    await fill(any_log, topic, 5)
    first, records = await take(any_log, topic, "g", 5)
    await first.commit({records[1].partition: records[1].next_offset})  # type: ignore[attr-defined]
    await first.close()  # type: ignore[attr-defined]
    second, again = await take(any_log, topic, "g", 3)
    assert [record.value for record in again] == [b"2", b"3", b"4"]
    await second.close()  # type: ignore[attr-defined]


async def test_groups_read_independently(any_log: EventLog, topic: str) -> None:
    await fill(any_log, topic, 3)
    for group in ("one", "two"):
        consumer, records = await take(any_log, topic, group, 3)
        assert len(records) == 3
        await consumer.close()  # type: ignore[attr-defined]


async def test_a_partition_has_one_member_at_a_time(any_log: EventLog, topic: str) -> None:
    await fill(any_log, topic, 3)
    first, records = await take(any_log, topic, "g", 3)
    second = any_log.consume("g", lambda name: name == topic)
    assert len(records) == 3
    assert await second.poll(max_records=10, wait_seconds=0.5) == []
    await first.close()  # type: ignore[attr-defined]


async def test_a_member_seeks_to_the_offset_it_keeps_itself(any_log: EventLog, topic: str) -> None:
    await fill(any_log, topic, 6)
    first, records = await take(any_log, topic, "g", 6)
    await first.commit({records[-1].partition: records[-1].next_offset})  # type: ignore[attr-defined]
    await first.close()  # type: ignore[attr-defined]

    async def stored(partitions: Sequence[Partition]) -> Mapping[Partition, Offset]:
        return {partition: records[2].next_offset for partition in partitions}

    second, again = await take(any_log, topic, "g", 3, on_assigned=stored)
    assert [record.value for record in again] == [b"3", b"4", b"5"]
    await second.close()  # type: ignore[attr-defined]


async def test_lag_counts_what_is_not_committed(any_log: EventLog, topic: str) -> None:
    await fill(any_log, topic, 4)
    partition = Partition(topic)
    assert (await any_log.lag("g", matches))[partition] == 4
    consumer, records = await take(any_log, topic, "g", 4)
    assert (await any_log.lag("g", matches))[partition] == 4
    await consumer.commit({partition: records[2].next_offset})  # type: ignore[attr-defined]
    assert (await any_log.lag("g", matches))[partition] == 1
    await consumer.close()  # type: ignore[attr-defined]


async def test_topics_made_later_are_found(any_log: EventLog, topic: str) -> None:
    consumer = any_log.consume("g", lambda name: name == topic)
    assert await consumer.poll(max_records=1, wait_seconds=0.1) == []
    await any_log.append(topic, b"k", b"late")
    async with asyncio.timeout(5):
        while not (records := await consumer.poll(max_records=1, wait_seconds=0.2)):
            pass
    assert records[0].value == b"late"
    await consumer.close()


async def test_trimming_keeps_what_a_group_has_not_committed(any_log: EventLog, topic: str) -> None:
    await fill(any_log, topic, 4)
    consumer, records = await take(any_log, topic, "g", 4)
    await consumer.commit({records[1].partition: records[1].next_offset})  # type: ignore[attr-defined]
    await any_log.trim()
    await consumer.close()  # type: ignore[attr-defined]
    again, rest = await take(any_log, topic, "g", 2)
    assert [record.value for record in rest] == [b"2", b"3"]
    await again.close()  # type: ignore[attr-defined]


async def test_a_full_log_refuses_raw_events_and_lets_the_rest_move(settings: Settings) -> None:
    log = ValkeyLog(settings.redis_url, max_bytes=1000, retention_hours=72)
    with pytest.raises(LogFull):
        await log.append("events.raw.full", b"k", b"v")
    await log.append("contract.moves", b"k", b"v")
    await log.close()


async def test_a_log_that_is_away_is_said_so_within_its_deadline() -> None:
    log = ValkeyLog("unix:///nonexistent/valkey.sock", max_bytes=10**9, retention_hours=72)
    async with asyncio.timeout(6):
        with pytest.raises(LogUnavailable):
            await log.append("contract.away", b"k", b"v")
    await log.close()
