"""What every event log must do; a later one joins by a fixture of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from uuid import uuid4

import pytest

from core.errors import LogFull, LogUnavailable
from core.eventlog import Consumer, EventLog, Offset, Partition, Record
from core.kafka.log import KafkaLog
from core.log import open_log
from core.partitioning import partition_of, spread_key
from core.settings import Settings
from core.valkey_log import ValkeyLog


@pytest.fixture(params=["valkey", "kafka"])
async def any_log(settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[EventLog]:
    brokers = request.getfixturevalue("kafka_brokers") if request.param == "kafka" else ""
    log = open_log(dataclasses.replace(settings, kafka_brokers=brokers))
    assert log.name == request.param
    yield log
    await log.close()


@pytest.fixture
def topic() -> str:
    """One partition, as a tenant's own topic has: what follows is about order."""
    return f"events.raw.{uuid4()}"


@pytest.fixture
def group() -> str:
    return f"group-{uuid4()}"


async def take(log: EventLog, topic: str, group: str, count: int, **options: object) -> tuple[object, list[Record]]:
    consumer = log.consume(group, re.compile(re.escape(topic)), **options)  # type: ignore[arg-type]
    records: list[Record] = []
    for _ in range(150):
        records += await consumer.poll(max_records=count - len(records), wait_seconds=0.2)
        if len(records) >= count:
            break
    return consumer, records


async def fill(log: EventLog, topic: str, count: int) -> None:
    for n in range(count):
        await log.append(topic, b"key", str(n).encode())


async def test_records_come_in_order_with_their_keys(any_log: EventLog, topic: str, group: str) -> None:
    await fill(any_log, topic, 20)
    consumer, records = await take(any_log, topic, group, 20)
    assert [record.value for record in records] == [str(n).encode() for n in range(20)]
    assert {record.key for record in records} == {b"key"}
    await consumer.close()  # type: ignore[attr-defined]


async def test_what_was_not_committed_comes_again_to_the_next_member(any_log: EventLog, topic: str, group: str) -> None:
    await fill(any_log, topic, 5)
    first, records = await take(any_log, topic, group, 5)
    await first.commit({records[1].partition: records[1].next_offset})  # type: ignore[attr-defined]
    await first.close()  # type: ignore[attr-defined]
    second, again = await take(any_log, topic, group, 3)
    assert [record.value for record in again] == [b"2", b"3", b"4"]
    await second.close()  # type: ignore[attr-defined]


async def test_groups_read_independently(any_log: EventLog, topic: str, group: str) -> None:
    await fill(any_log, topic, 3)
    for other in (group, f"{group}-2"):
        consumer, records = await take(any_log, topic, other, 3)
        assert len(records) == 3
        await consumer.close()  # type: ignore[attr-defined]


async def test_a_partition_has_one_member_at_a_time(any_log: EventLog, topic: str, group: str) -> None:
    await fill(any_log, topic, 3)
    first, records = await take(any_log, topic, group, 3)
    second = any_log.consume(group, re.compile(re.escape(topic)))
    waiting = asyncio.create_task(second.poll(max_records=10, wait_seconds=0.5))
    done, _ = await asyncio.wait({waiting}, timeout=3)
    assert not done or waiting.result() == []
    # What the first is at work on is finished before the second gets anything.
    await first.commit({records[-1].partition: records[-1].next_offset})  # type: ignore[attr-defined]
    await first.close()  # type: ignore[attr-defined]
    assert await waiting == []
    await any_log.append(topic, b"key", b"next")
    found: list[Record] = []
    async with asyncio.timeout(30):
        while not found:
            found = await second.poll(max_records=10, wait_seconds=0.5)
    assert [record.value for record in found] == [b"next"]
    await second.close()


async def test_a_member_seeks_to_the_offset_it_keeps_itself(any_log: EventLog, topic: str, group: str) -> None:
    await fill(any_log, topic, 6)
    first, records = await take(any_log, topic, group, 6)
    await first.commit({records[-1].partition: records[-1].next_offset})  # type: ignore[attr-defined]
    await first.close()  # type: ignore[attr-defined]

    async def stored(partitions: Sequence[Partition]) -> Mapping[Partition, Offset]:
        return {partition: records[2].next_offset for partition in partitions}

    second, again = await take(any_log, topic, group, 3, on_assigned=stored)
    assert [record.value for record in again] == [b"3", b"4", b"5"]
    await second.close()  # type: ignore[attr-defined]


async def test_lag_counts_what_is_not_committed(any_log: EventLog, topic: str, group: str) -> None:
    await fill(any_log, topic, 4)
    partition = Partition(topic)
    assert (await any_log.lag(group, re.compile(re.escape(topic))))[partition] == 4
    consumer, records = await take(any_log, topic, group, 4)
    assert (await any_log.lag(group, re.compile(re.escape(topic))))[partition] == 4
    await consumer.commit({partition: records[2].next_offset})  # type: ignore[attr-defined]
    assert (await any_log.lag(group, re.compile(re.escape(topic))))[partition] == 1
    await consumer.close()  # type: ignore[attr-defined]


async def test_what_a_member_keeps_itself_counts_as_done_though_its_commit_was_lost(
    any_log: EventLog, topic: str, group: str
) -> None:
    await fill(any_log, topic, 3)
    first, records = await take(any_log, topic, group, 3)
    await first.close()  # type: ignore[attr-defined]
    end = records[-1].next_offset

    async def stored(partitions: Sequence[Partition]) -> dict[Partition, Offset]:
        return {partition: end for partition in partitions}

    consumer = any_log.consume(group, re.compile(re.escape(topic)), stored)
    try:
        async with asyncio.timeout(30):
            while sum((await any_log.lag(group, re.compile(re.escape(topic)))).values()):
                assert await consumer.poll(max_records=10, wait_seconds=0.2) == []
    finally:
        await consumer.close()


async def test_topics_made_later_are_found(any_log: EventLog, topic: str, group: str) -> None:
    consumer = any_log.consume(group, re.compile(re.escape(topic)))
    assert await consumer.poll(max_records=1, wait_seconds=0.1) == []
    await any_log.append(topic, b"k", b"late")
    async with asyncio.timeout(20):
        while not (records := await consumer.poll(max_records=1, wait_seconds=0.2)):
            pass
    assert records[0].value == b"late"
    await consumer.close()


async def test_trimming_keeps_what_a_group_has_not_committed(any_log: EventLog, topic: str, group: str) -> None:
    await fill(any_log, topic, 4)
    consumer, records = await take(any_log, topic, group, 4)
    await consumer.commit({records[1].partition: records[1].next_offset})  # type: ignore[attr-defined]
    await any_log.trim()
    await consumer.close()  # type: ignore[attr-defined]
    again, rest = await take(any_log, topic, group, 2)
    assert [record.value for record in rest] == [b"2", b"3"]
    await again.close()  # type: ignore[attr-defined]


async def test_a_full_log_refuses_raw_events_and_lets_the_rest_move(settings: Settings) -> None:
    log = ValkeyLog(settings.redis_url, max_bytes=1000, retention_hours=72)
    with pytest.raises(LogFull):
        await log.append(f"events.raw.{uuid4()}", b"k", b"v")
    await log.append("contract.moves", b"k", b"v")
    await log.close()


async def test_a_log_that_is_away_is_said_so_within_its_deadline() -> None:
    log = ValkeyLog("unix:///nonexistent/valkey.sock", max_bytes=10**9, retention_hours=72)
    async with asyncio.timeout(6):
        with pytest.raises(LogUnavailable):
            await log.append("contract.away", b"k", b"v")
    await log.close()


async def test_a_broker_that_is_away_is_said_so_within_the_deadline() -> None:
    log = KafkaLog("127.0.0.1:1", partitions=1, replication=1, retention_hours=72)
    async with asyncio.timeout(6):
        with pytest.raises(LogUnavailable):
            await log.append("contract.away", b"k", b"v")
    await log.close()


async def test_done_until_is_when_the_oldest_open_record_came(any_log: EventLog, topic: str, group: str) -> None:
    only = re.compile(re.escape(topic))
    before = int(time.time() * 1000)
    await fill(any_log, topic, 2)
    await asyncio.sleep(0.05)
    between = int(time.time() * 1000)
    await fill(any_log, topic, 1)
    assert before <= await any_log.done_until(group, only) <= between
    consumer, records = await take(any_log, topic, group, 3)
    await consumer.commit({records[1].partition: records[1].next_offset})  # type: ignore[attr-defined]
    assert await any_log.done_until(group, only) >= between
    await consumer.commit({records[2].partition: records[2].next_offset})  # type: ignore[attr-defined]
    asked = int(time.time() * 1000)
    assert await any_log.done_until(group, only) >= asked
    await consumer.close()  # type: ignore[attr-defined]


async def test_what_was_polled_and_rewound_comes_again(any_log: EventLog, topic: str, group: str) -> None:
    await fill(any_log, topic, 4)
    consumer, records = await take(any_log, topic, group, 4)
    await consumer.commit({records[0].partition: records[0].next_offset})  # type: ignore[attr-defined]
    await consumer.rewind()  # type: ignore[attr-defined]
    again: list[Record] = []
    async with asyncio.timeout(20):
        while len(again) < 3:
            again += await consumer.poll(max_records=3 - len(again), wait_seconds=0.2)  # type: ignore[attr-defined]
    assert [record.value for record in again] == [b"1", b"2", b"3"]
    await consumer.close()  # type: ignore[attr-defined]


async def test_a_topic_made_after_the_first_question_is_asked_about_as_well(
    any_log: EventLog, topic: str, group: str
) -> None:
    family = re.compile(re.escape(topic) + r"|events\.raw\.later-.*")
    await fill(any_log, topic, 1)
    assert sum((await any_log.lag(group, family)).values()) == 1
    later = f"events.raw.later-{uuid4()}"
    await fill(any_log, later, 2)
    assert (await any_log.lag(group, family))[Partition(later)] == 2
    assert await any_log.done_until(group, family) < int(time.time() * 1000)


async def test_topics_made_while_others_are_read_lose_nothing(any_log: EventLog, group: str) -> None:
    """Each new topic gives partitions out anew, in the middle of a poll."""
    family = f"events.raw.family-{uuid4()}-"
    consumer = any_log.consume(group, re.compile(re.escape(family) + r"\d+"))
    seen: set[bytes] = set()

    async def grow() -> None:
        for n in range(6):
            await any_log.append(f"{family}{n}", b"key", f"{n} first".encode())
            await any_log.append(f"{family}{n}", b"key", f"{n} second".encode())
            await asyncio.sleep(0.7)

    growing = asyncio.create_task(grow())
    async with asyncio.timeout(60):
        while len(seen) < 12:
            records = await consumer.poll(max_records=100, wait_seconds=0.3)
            seen |= {record.value for record in records}
            await consumer.commit({record.partition: record.next_offset for record in records})
    await growing
    await consumer.close()


def shared_topic() -> str:
    """One of several partitions, as tenants share."""
    return f"contract.shared-{uuid4()}"


async def read_together(members: list[Consumer], count: int) -> list[list[Record]]:
    """What each of the members gets, all at once, of so many records; each commits as it goes."""
    found: list[list[Record]] = [[] for _ in members]

    async def read(number: int) -> None:
        while sum(map(len, found)) < count:
            records = await members[number].poll(max_records=5, wait_seconds=0.2)
            found[number] += records
            await members[number].commit({record.partition: record.next_offset for record in records})

    async with asyncio.timeout(60):
        await asyncio.gather(*(read(number) for number in range(len(members))))
    return found


async def test_members_share_a_topics_partitions_and_each_record_comes_to_one(any_log: EventLog, group: str) -> None:
    topic = shared_topic()
    await any_log.create_topic(topic)
    members = [any_log.consume(group, re.compile(re.escape(topic))) for _ in range(3)]
    # Until all have met: nobody can share what the first one began with.
    for _ in range(3):
        await asyncio.gather(*(member.poll(max_records=1, wait_seconds=1.5) for member in members))
    keys = [uuid4().bytes for _ in range(60)]
    for key in keys:
        await any_log.append(topic, key, key)
    found = await read_together(members, 60)
    assert sorted(record.value for mine in found for record in mine) == sorted(keys)
    assert [bool(mine) for mine in found] == [True, True, True]
    partitions = [{record.partition for record in mine} for mine in found]
    assert sum(map(len, partitions)) == len(set().union(*partitions)) == 4
    # Who leaves, leaves all to the others.
    await members.pop().close()
    for key in keys:
        await any_log.append(topic, key, key)
    assert sorted(record.value for mine in await read_together(members, 60) for record in mine) == sorted(keys)
    for member in members:
        await member.close()


@pytest.mark.parametrize("sub_keys", [1, 2, 4, 7])
async def test_a_spread_tenant_is_in_as_many_partitions_as_it_has_sub_keys(
    any_log: EventLog, group: str, sub_keys: int
) -> None:
    topic, tenant_id = shared_topic(), uuid4()
    for n in range(64):
        await any_log.append(topic, spread_key(tenant_id, f"request {n}", sub_keys), b"")
    lag = await any_log.lag(group, re.compile(re.escape(topic)))
    assert sum(lag.values()) == 64 and sum(records > 0 for records in lag.values()) == min(sub_keys, 4)


async def test_a_backlog_of_one_topic_keeps_no_other_waiting(any_log: EventLog, group: str) -> None:
    family = f"events.raw.fair-{uuid4()}-"
    flooded, quiet = f"{family}3", [f"{family}{n}" for n in (0, 1, 2, 4, 5, 6)]
    await fill(any_log, flooded, 300)
    for topic in quiet:
        await fill(any_log, topic, 4)
    consumer = any_log.consume(group, re.compile(re.escape(family) + r"\d"))
    order: list[Record] = []
    async with asyncio.timeout(60):
        while len(order) < 324:
            records = await consumer.poll(max_records=20, wait_seconds=0.5)
            assert len(records) <= 20
            order += records
            await consumer.commit({record.partition: record.next_offset for record in records})
    last = max(n for n, record in enumerate(order) if record.partition.topic != flooded)
    assert sum(record.partition.topic == flooded for record in order[:last]) < 150
    mine = [record.value for record in order if record.partition.topic == flooded]
    assert mine == [str(n).encode() for n in range(300)]
    await consumer.close()


async def test_a_backlog_alone_gets_the_whole_of_a_poll(any_log: EventLog, group: str) -> None:
    family = f"events.raw.alone-{uuid4()}-"
    for n in range(5):
        await any_log.create_topic(f"{family}{n}")
    await fill(any_log, f"{family}2", 60)
    consumer = any_log.consume(group, re.compile(re.escape(family) + r"\d"))
    sizes = []
    async with asyncio.timeout(60):
        while sum(sizes) < 60:
            records = await consumer.poll(max_records=20, wait_seconds=0.5)
            sizes.append(len(records))
            await consumer.commit({record.partition: record.next_offset for record in records})
    assert max(sizes) == 20
    await consumer.close()


async def test_more_topics_than_a_poll_takes_are_all_read(any_log: EventLog, group: str) -> None:
    family = f"events.raw.many-{uuid4()}-"
    for n in range(12):
        await fill(any_log, f"{family}{n}", 6)
    consumer = any_log.consume(group, re.compile(re.escape(family) + r"\d+"))
    order: list[Record] = []
    async with asyncio.timeout(60):
        while len(order) < 72:
            records = await consumer.poll(max_records=5, wait_seconds=0.5)
            assert len(records) <= 5
            order += records
            await consumer.commit({record.partition: record.next_offset for record in records})
    by_topic: dict[Partition, list[bytes]] = {}
    for record in order:
        by_topic.setdefault(record.partition, []).append(record.value)
    assert set(map(tuple, by_topic.values())) == {tuple(str(n).encode() for n in range(6))} and len(by_topic) == 12
    await consumer.close()


async def test_a_deleted_topic_is_gone_for_its_readers_and_may_be_made_anew(
    any_log: EventLog, topic: str, group: str
) -> None:
    await fill(any_log, topic, 3)
    consumer, _ = await take(any_log, topic, group, 3)
    assert await any_log.delete_topic(topic)
    pattern = re.compile(re.escape(topic))
    for _ in range(100):
        # A reader that held it goes on with what else there is, and raises nothing that does not pass.
        with suppress(LogUnavailable):
            assert await consumer.poll(max_records=10, wait_seconds=0.1) == []  # type: ignore[attr-defined]
        if not await any_log.lag(group, pattern):
            break
    assert await any_log.lag(group, pattern) == {} and not await any_log.delete_topic(topic)
    await consumer.close()  # type: ignore[attr-defined]
    for _ in range(50):
        # A broker takes a moment to have forgotten a topic.
        with suppress(LogUnavailable):
            await any_log.append(topic, b"key", b"anew")
            break
        await asyncio.sleep(0.2)
    consumer, (record,) = await take(any_log, topic, f"{group}-2", 1)
    assert record.value == b"anew"
    await consumer.close()  # type: ignore[attr-defined]


async def test_a_tenants_records_are_forgotten_in_shared_topics_as_far_as_the_log_can(
    any_log: EventLog, group: str
) -> None:
    """Those that everybody has read, but for the very last one; the others' stay, and what is open is told right."""
    topic, gone = f"shared-{uuid4()}", uuid4().bytes
    pattern = re.compile(re.escape(topic))
    # All of one partition of the four.
    kept = next(key for _ in range(1000) if partition_of(key := uuid4().bytes, 4) == partition_of(gone, 4))
    for key in (gone, kept, gone + b"\x04", gone, kept, gone):
        await any_log.append(topic, key, b"value")
    consumer, records = await take(any_log, topic, group, 4)
    await consumer.commit({records[-1].partition: records[-1].next_offset})  # type: ignore[attr-defined]
    forgotten = await any_log.forget(pattern, gone)
    if any_log.name == "kafka":
        assert (forgotten.dropped, forgotten.remaining) == (0, None)
    else:
        # Read are three of its own, the last of which is the last that was read; one more is not read yet.
        assert (forgotten.dropped, forgotten.remaining) == (2, 2)
        assert sum((await any_log.lag(group, pattern)).values()) == 2
        others, left = await take(any_log, topic, f"{group}-2", 4)
        assert [record.key for record in left] == [kept, gone, kept, gone]
        await others.close()  # type: ignore[attr-defined]
    await consumer.close()  # type: ignore[attr-defined]
