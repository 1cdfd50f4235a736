"""What can go wrong between Valkey and a reader of its streams."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import TimeoutError as ReadTimedOut

from core.eventlog import Consumer, Offset, Partition, Record
from core.settings import Settings
from core.valkey import open_valkey
from core.valkey_log import ValkeyLog

PARTITION = Partition("streams.test")
ONLY = re.compile(re.escape(PARTITION.topic))


@pytest.fixture
async def log(settings: Settings) -> Any:
    """A log whose one stream has five records."""
    client = open_valkey(settings.redis_url, seconds=2.0)
    await client.delete("cm:log:streams.test", "cm:lease:g:streams.test", "cm:members:g")
    await client.aclose()
    log = ValkeyLog(settings.redis_url, max_bytes=256 * 1024 * 1024, retention_hours=72)
    for n in range(5):
        await log.append(PARTITION.topic, b"", str(n).encode())
    yield log
    await log.close()


async def read(consumer: Consumer, count: int) -> list[Record]:
    found: list[Record] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += await consumer.poll(max_records=count - len(found), wait_seconds=0.2)
    return found


async def expire_lease(settings: Settings) -> None:
    """As ten seconds of silence of its holder would."""
    client = open_valkey(settings.redis_url, seconds=2.0)
    await client.delete("cm:lease:g:streams.test", "cm:members:g")
    await client.aclose()


async def test_an_answer_that_is_lost_loses_no_record(log: ValkeyLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sends records, the connection breaks before they are read, and the client tries again by itself."""
    consumer = log.consume("g", ONLY)
    await read(consumer, 2)
    whole, lost = AbstractConnection.read_response, []

    async def broken(self: AbstractConnection, *args: Any, **options: Any) -> Any:
        answer = await whole(self, *args, **options)
        if not lost and b"cm:log:streams.test" in repr(answer).encode():
            lost.append(answer)
            await self.disconnect(nowait=True)
            raise ReadTimedOut("lost")
        return answer

    monkeypatch.setattr(AbstractConnection, "read_response", broken)
    assert [record.value for record in await read(consumer, 3)] == [b"2", b"3", b"4"]
    assert lost
    await consumer.close()


async def test_who_lost_the_lease_commits_nothing_and_reads_on_from_what_is_committed(
    log: ValkeyLog, settings: Settings
) -> None:
    frozen, other = log.consume("g", ONLY), log.consume("g", ONLY)
    records = await read(frozen, 3)
    await expire_lease(settings)
    taken = await read(other, 3)
    assert [record.value for record in taken] == [b"0", b"1", b"2"]
    await other.commit({PARTITION: taken[0].next_offset})
    await frozen.commit({PARTITION: records[-1].next_offset})
    assert (await log.lag("g", ONLY))[PARTITION] == 4
    await other.close()
    assert [record.value for record in await read(frozen, 4)] == [b"1", b"2", b"3", b"4"]
    await frozen.close()


async def test_a_lease_taken_anew_begins_where_the_group_stands_by_then(log: ValkeyLog, settings: Settings) -> None:
    frozen, other = log.consume("g", ONLY), log.consume("g", ONLY)
    await read(frozen, 1)
    await expire_lease(settings)
    taken = await read(other, 4)
    await other.commit({PARTITION: taken[-1].next_offset})
    await other.close()
    frozen._held[PARTITION].renewed_at = float("-inf")
    assert [record.value for record in await read(frozen, 1)] == [b"4"]
    await frozen.close()


@pytest.mark.parametrize(("kept", "lag"), [(0, 4), (3, 1), (4, 0)])
async def test_lag_is_exact_after_a_seek(log: ValkeyLog, kept: int, lag: int) -> None:
    consumer = log.consume("g", ONLY)
    records = await read(consumer, 3)
    await consumer.commit({PARTITION: records[-1].next_offset})
    records += await read(consumer, 2)
    await consumer.close()

    async def stored(partitions: Sequence[Partition]) -> Mapping[Partition, Offset]:
        return {PARTITION: records[kept].next_offset}

    again = log.consume("g", ONLY, stored)
    await again.poll(max_records=1, wait_seconds=0.1)
    assert (await log.lag("g", ONLY))[PARTITION] == lag
    await again.close()


async def test_a_commit_repeated_counts_once(log: ValkeyLog) -> None:
    consumer = log.consume("g", ONLY)
    records = await read(consumer, 3)
    for _ in range(2):
        await consumer._move_group(PARTITION, records[-1].offset, 3)
    assert (await log.lag("g", ONLY))[PARTITION] == 2
    await consumer.close()


async def test_a_server_that_lost_everything_is_told_its_topics_again(log: ValkeyLog, settings: Settings) -> None:
    client = open_valkey(settings.redis_url, seconds=2.0)
    await client.flushall()
    await client.aclose()
    consumer = log.consume("g", ONLY)
    assert await consumer.poll(max_records=5, wait_seconds=0.1) == []
    await log.append(PARTITION.topic, b"", b"after")
    assert [record.value for record in await read(consumer, 1)] == [b"after"]
    await consumer.close()
