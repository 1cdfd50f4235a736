"""A producer that is replaced when it is stuck.

An idempotent producer may fail for good after a broker's restart (aio-libs/aiokafka#1017), and its batches never expire
while the broker is away (#1101): one that has moved nothing for a while is put aside, and a new one is made.
"""

from __future__ import annotations

import asyncio
import logging
import time

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    UnknownProducerId,
)
from aiokafka.partitioner import murmur2

from core.errors import LogUnavailable
from core.kafka.client import KAFKA_AWAY, MAX_RECORD_BYTES, REQUEST_SECONDS, has_dead_task, stop_within
from core.partitioning import partition_of

log = logging.getLogger("core.kafka")

# After these a producer never sends again.
FATAL = (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    UnknownProducerId,
)
STUCK_SECONDS = 5.0
# A record is a whole request, more than the client's default of 16 KiB: each would go by itself, one round trip after
# the other. Below a broker's default limit of 1 MiB; what is larger still goes by itself.
BATCH_BYTES = 960 * 1024
# After a start that failed nobody tries again this long: requests must not pile up behind a broker that is away.
START_PAUSE_SECONDS = 0.5


def partition_of_key(key: bytes, count: int) -> int:
    """Where Kafka's own clients place a tenant, and its sub-keys beside it."""
    return partition_of(key, count, lambda tenant: murmur2(tenant) & 0x7FFFFFFF)


def _partitioner(key: bytes, every: list[int], available: list[int]) -> int:
    return every[partition_of_key(key, len(every))]


class Producer:
    """Sends records; `send` returns when the broker has them on all replicas."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._moved_at = time.monotonic()
        self._paused_until = 0.0
        self._stopping: set[asyncio.Task[None]] = set()

    async def send(self, topic: str, key: bytes, value: bytes) -> int:
        """Appends one record; its offset.

        Raises:
            KafkaError, LogUnavailable: not known to be stored.
        """
        producer = await self._started()
        try:
            future = await producer.send(topic, value, key=key)
            # The record may still arrive after the caller gave up on it; cancelling the future would not call it back.
            found = await asyncio.shield(future)
        except (*FATAL, RuntimeError):
            self._replace(producer)
            raise
        except (*KAFKA_AWAY, asyncio.CancelledError):
            if time.monotonic() - self._moved_at > STUCK_SECONDS:
                self._replace(producer)
            raise
        self._moved_at = time.monotonic()
        return int(found.offset)

    def has_lost(self, topic: str) -> bool:
        """Whether the brokers, when last asked, knew nothing of a topic."""
        return self._producer is not None and self._producer.client.cluster.partitions_for_topic(topic) is None

    async def close(self) -> None:
        if self._producer is not None:
            await stop_within(self._producer)
        await asyncio.gather(*self._stopping, return_exceptions=True)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is not None and has_dead_task(self._producer):
                self._replace(self._producer)
            if self._producer is not None:
                return self._producer
            if time.monotonic() < self._paused_until:
                raise LogUnavailable(retry_after=1.0)
            producer = AIOKafkaProducer(
                bootstrap_servers=self._brokers,
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                max_batch_size=BATCH_BYTES,
                max_request_size=MAX_RECORD_BYTES,
                partitioner=_partitioner,
                request_timeout_ms=int(REQUEST_SECONDS * 1000),
                retry_backoff_ms=100,
            )
            try:
                await producer.start()
            except BaseException:
                self._paused_until = time.monotonic() + START_PAUSE_SECONDS
                self._put_aside(producer)
                raise
            self._producer, self._moved_at = producer, time.monotonic()
            return producer

    def _replace(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            log.warning("producer replaced", extra={"action": "replace_producer"})
            self._producer = None
            self._put_aside(producer)

    def _put_aside(self, producer: AIOKafkaProducer) -> None:
        task = asyncio.create_task(stop_within(producer))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
