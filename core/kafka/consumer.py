"""A member of a consumer group on Kafka.

Offsets that a worker keeps elsewhere, with its results, win over the group's own: whenever partitions are given out the
consumer seeks. What was polled is finished before partitions are given away, within a time; who takes longer is fenced
by the offset kept with the results.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import ConsumerRecord, TopicPartition

from core.errors import LogUnavailable
from core.eventlog import Offset, OnAssigned, Partition, Record
from core.kafka.client import (
    MAX_RECORD_BYTES,
    METADATA_SECONDS,
    STUCK_SECONDS,
    Pulse,
    heed_group_errors,
    is_answering,
    kafka_errors,
    stop_within,
)
from core.kafka.turns import Turns

log = logging.getLogger("core.kafka")

SESSION_SECONDS = 10.0
REVOKE_SECONDS = 20.0
# A broker keeps who joins waiting for the others, as long as a session lasts.
REQUEST_SECONDS = SESSION_SECONDS + 5.0
JOIN_SECONDS = 30.0
COMMIT_SECONDS = 10.0


class KafkaConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """`Consumer` on Kafka. `getmany` only: the iterator skips records that are too large (aio-libs/aiokafka#1173)."""

    def __init__(self, brokers: str, group: str, topics: re.Pattern[str], on_assigned: OnAssigned | None) -> None:
        self._brokers = brokers
        self._group = group
        self._topics = topics
        self._on_assigned = on_assigned
        self._consumer: AIOKafkaConsumer | None = None
        self._turns = Turns()
        self._pulse: Pulse | None = None
        self._failing_since: float | None = None
        # Partitions were given out, and where to begin in them is still to be asked.
        self._is_placed = True
        # Where to go on after a rewind: what was committed last, or polled first.
        self._done: dict[TopicPartition, int] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def poll(self, *, max_records: int, wait_seconds: float) -> list[Record]:
        try:
            async with kafka_errors():
                await self._leave_if_stuck()
                found = await self._polled(max_records, wait_seconds)
        except LogUnavailable:
            self._failing_since = self._failing_since or time.monotonic()
            raise
        self._failing_since = None
        records = [
            Record(Partition(place.topic, place.partition), Offset(str(message.offset)),
                   Offset(str(message.offset + 1)), message.key or b"", message.value or b"")
            for place, messages in found.items()
            for message in messages
        ]  # fmt: skip
        if records:
            self._idle.clear()
        return records

    async def _polled(self, max_records: int, wait_seconds: float) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        consumer = await self._joined()
        if not self._is_placed:
            await self._place(consumer)
        found = await self._turns.take(consumer, most=max_records, wait_seconds=wait_seconds)
        for place, messages in found.items():
            self._done.setdefault(place, messages[0].offset)
        if not self._is_placed:
            # Given out while we waited: what came may not be where we have to begin. It comes again.
            return {}
        return found

    async def commit(self, offsets: Mapping[Partition, Offset]) -> None:
        if self._consumer is None or not offsets:
            return
        self._done |= {_place_of(partition): int(offset) for partition, offset in offsets.items()}
        try:
            async with kafka_errors():
                await self._tell_group(self._consumer, offsets)
        finally:
            self._idle.set()

    async def _tell_group(self, consumer: AIOKafkaConsumer, offsets: Mapping[Partition, Offset]) -> None:
        if not offsets:
            return
        try:
            # The client itself tries for ever.
            async with asyncio.timeout(COMMIT_SECONDS):
                await consumer.commit({_place_of(partition): int(offset) for partition, offset in offsets.items()})
        except (CommitFailedError, IllegalStateError):
            # Given to somebody else meanwhile, who begins where the results stand.
            log.info("commit after a rebalance", extra={"action": "leave_group"})

    async def rewind(self) -> None:
        self._is_placed = False
        self._idle.set()
        if self._consumer is not None:
            async with kafka_errors():
                await self._place(self._consumer)

    async def close(self) -> None:
        self._idle.set()
        consumer, self._consumer, self._pulse = self._consumer, None, None
        if consumer is not None:
            await stop_within(consumer)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Lets what was polled be finished first."""
        try:
            async with asyncio.timeout(REVOKE_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("partitions taken while at work", extra={"action": "leave_group", "group": self._group})

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._is_placed = False
        self._done.clear()

    async def _leave_if_stuck(self) -> None:
        """A client that will not heal by itself makes room for a new one, which begins where the group stands. While
        the brokers are away it is kept: back as itself it need not wait for its own session to run out."""
        is_failing = self._failing_since is not None and time.monotonic() - self._failing_since > STUCK_SECONDS
        if self._pulse is None or not (is_failing or self._pulse.is_gone()):
            return
        if not await is_answering(self._brokers):
            self._pulse.begin_anew()
            self._failing_since = None
            return
        log.warning("consumer replaced", extra={"action": "replace_consumer", "group": self._group})
        await self.close()

    async def _joined(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._brokers,
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=2 * MAX_RECORD_BYTES,
                metadata_max_age_ms=int(METADATA_SECONDS * 1000),
                session_timeout_ms=int(SESSION_SECONDS * 1000),
                heartbeat_interval_ms=int(SESSION_SECONDS * 1000 / 3),
                # Work on one batch may wait for a database; the fence, not the broker, tells who is too late.
                max_poll_interval_ms=300_000,
                request_timeout_ms=int(REQUEST_SECONDS * 1000),
            )
            heed_group_errors(consumer)
            consumer.subscribe(pattern=f"(?:{self._topics.pattern})\\Z", listener=self)
            try:
                async with asyncio.timeout(JOIN_SECONDS):
                    await consumer.start()
            except BaseException:
                await stop_within(consumer)
                raise
            self._consumer, self._pulse, self._failing_since = consumer, Pulse(consumer), None
        return self._consumer

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Seeks to the offsets kept elsewhere, and to what was done last. Where there is neither, the client itself
        begins at the group's offset, or at the beginning; to ask for each of a thousand takes minutes.

        Where it begins is told to the group as well: a commit that was lost with its broker is not made again
        before the next record, and a quiet topic would look behind for as long."""
        self._is_placed = True
        try:
            partitions = [_partition_of(place) for place in sorted(consumer.assignment())]
            stored = await self._on_assigned(partitions) if self._on_assigned and partitions else {}
            known = {_partition_of(place): Offset(str(offset)) for place, offset in self._done.items()} | {**stored}
            begun = {partition: known[partition] for partition in partitions if partition in known}
            for partition, offset in begun.items():
                consumer.seek(_place_of(partition), int(offset))
            await self._tell_group(consumer, begun)
        except BaseException:
            self._is_placed = False
            raise


def _partition_of(place: TopicPartition) -> Partition:
    return Partition(place.topic, place.partition)


def _place_of(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.number)
