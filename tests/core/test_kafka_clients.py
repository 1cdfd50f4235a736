"""Kafka's clients: one that is stuck, or whose topic was deleted, is noticed and replaced."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchResponse_v3

from core.errors import LogUnavailable
from core.eventlog import Offset, Partition
from core.kafka import client as kafka_client
from core.kafka.client import connections_of, stop_within
from core.kafka.consumer import KafkaConsumer
from core.kafka.log import KafkaLog

pytestmark = pytest.mark.slow
T = TypeVar("T")
# COORDINATOR_LOAD_IN_PROGRESS, as a broker says it of a whole group.
LOADING = 14


@pytest.fixture
async def log(kafka_brokers: str) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(kafka_brokers, partitions=1, replication=1, retention_hours=72)
    yield log
    await log.close()


@pytest.fixture
def topic() -> str:
    return f"events.raw.{uuid4()}"


async def end_metadata_task(client: Any) -> None:
    """What a RuntimeError of uvloop does to it."""
    task = connections_of(client)._sync_task
    task.cancel()
    await asyncio.wait([task])


async def until_done(work: Callable[[], Awaitable[T]], is_enough: Callable[[T], bool] = lambda _: True) -> T:
    """Tries again, as workers and senders do."""
    async with asyncio.timeout(30):
        while True:
            try:
                if is_enough(found := await work()):
                    return found
            except LogUnavailable:
                await asyncio.sleep(0.2)


async def lag_of(log: KafkaLog, topic: str) -> int:
    return sum((await until_done(lambda: log.lag("nobody", re.compile(re.escape(topic))))).values())


async def polled(consumer: KafkaConsumer, count: int) -> list[bytes]:
    found: list[bytes] = []

    async def poll() -> int:
        found.extend(record.value for record in await consumer.poll(max_records=10, wait_seconds=0.2))
        return len(found)

    await until_done(poll, lambda number: number >= count)
    return found


async def test_clients_whose_own_tasks_have_ended_are_replaced(log: KafkaLog, topic: str) -> None:
    only = re.compile(re.escape(topic))
    await log.append(topic, b"key", b"1")
    assert await lag_of(log, topic) == 1
    consumer = log.consume(f"group-{uuid4()}", only)
    assert await polled(consumer, 1) == [b"1"]
    for client in (log._producer._producer, log._observer._admin, log._observer._reader, consumer._consumer):
        await end_metadata_task(client)
    # A new topic needs news of topics.
    other = f"{topic[:-1]}-"
    await until_done(lambda: log.append(topic, b"key", b"2"))
    await until_done(lambda: log.append(other, b"key", b"3"))
    assert await lag_of(log, topic) == 2
    assert (await polled(consumer, 2))[-1] == b"2"
    await consumer.close()


async def test_a_consumer_that_hears_nothing_of_its_brokers_is_replaced(
    log: KafkaLog, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append(topic, b"key", b"1")
    consumer = log.consume(f"group-{uuid4()}", re.compile(re.escape(topic)))
    assert await polled(consumer, 1) == [b"1"]
    first = consumer._consumer
    monkeypatch.setattr(kafka_client, "STUCK_SECONDS", 0.0)
    await until_done(lambda: consumer.poll(max_records=1, wait_seconds=0.1))
    monkeypatch.undo()
    assert consumer._consumer is not None and consumer._consumer is not first
    await consumer.close()


class DeafConsumer:
    """One that swallows the first cancellation while it stops, as aiokafka's does."""

    def __init__(self) -> None:
        self._client = self

    async def stop(self) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(3600)

    close = stop


async def test_a_client_that_does_not_stop_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_client, "CLOSE_SECONDS", 0.1)
    async with asyncio.timeout(5):
        await stop_within(DeafConsumer(), 0.1)


async def test_who_gave_up_a_question_leaves_no_client_that_waits(log: KafkaLog, topic: str) -> None:
    await log.append(topic, b"key", b"1")
    only = re.compile(re.escape(topic))
    await lag_of(log, topic)
    first = log._observer._reader
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await log.lag("nobody", only)
    assert await lag_of(log, topic) == 1
    assert log._observer._reader is not first


async def test_a_deleted_topic_is_made_anew_by_who_appends(log: KafkaLog, topic: str, kafka_brokers: str) -> None:
    await log.append(topic, b"key", b"before")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_brokers)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()
    with pytest.raises(LogUnavailable):
        await log.append(topic, b"key", b"into nothing")
    await until_done(lambda: log.append(topic, b"key", b"after"))
    consumer = log.consume(f"group-{uuid4()}", re.compile(re.escape(topic)))
    assert b"after" in await polled(consumer, 1)
    await consumer.close()


async def test_a_group_whose_coordinator_is_still_loading_goes_on_where_it_stood(
    log: KafkaLog, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (b"0", b"1", b"2", b"3"):
        await log.append(topic, b"key", value)
    only, group = re.compile(re.escape(topic)), f"group-{uuid4()}"
    first = log.consume(group, only)
    assert await polled(first, 4) == [b"0", b"1", b"2", b"3"]
    await first.commit({Partition(topic): Offset("3")})
    await first.close()
    send, answers = AIOKafkaClient.send, [LOADING, LOADING]

    async def loading(client: AIOKafkaClient, node_id: int, request: Any, **options: Any) -> Any:
        if isinstance(request, OffsetFetchRequest) and answers:
            return OffsetFetchResponse_v3(0, [], answers.pop())
        return await send(client, node_id, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", loading)
    second = log.consume(group, only)
    assert await polled(second, 1) == [b"3"]
    assert answers == []
    await second.close()
