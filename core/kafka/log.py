"""The event log on Apache Kafka: idempotent appends on all replicas, consumer groups over partitions."""

from __future__ import annotations

import asyncio
import re

from core.errors import LogUnavailable
from core.eventlog import APPEND_SECONDS, Forgotten, Offset, OnAssigned, Partition
from core.kafka.client import kafka_errors
from core.kafka.consumer import KafkaConsumer
from core.kafka.observer import Observer
from core.kafka.producer import Producer
from core.topics import is_tenants_own

# More than these wait for a broker that is slow; the next is refused at once, and memory stays bounded.
MAX_IN_FLIGHT = 1000


class KafkaLog:
    """`EventLog` on Kafka brokers."""

    def __init__(self, brokers: str, *, partitions: int, replication: int, retention_hours: int) -> None:
        self._brokers = brokers
        self._partitions = partitions
        self._replication = replication
        self._retention_hours = retention_hours
        self._producer = Producer(brokers)
        self._observer = Observer(brokers)
        self._known: set[str] = set()
        self._in_flight = 0

    @property
    def name(self) -> str:
        return "kafka"

    async def create_topic(self, topic: str) -> None:
        async with kafka_errors():
            await self._observer.create_topic(
                topic,
                partitions=1 if is_tenants_own(topic) else self._partitions,
                replication=self._replication,
                retention_hours=self._retention_hours,
            )
        self._known.add(topic)

    async def append(self, topic: str, key: bytes, value: bytes) -> Offset:
        if self._in_flight >= MAX_IN_FLIGHT:
            raise LogUnavailable(retry_after=1.0)
        self._in_flight += 1
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                async with kafka_errors():
                    if topic not in self._known:
                        await self.create_topic(topic)
                    return Offset(str(await self._producer.send(topic, key, value)))
        except (TimeoutError, LogUnavailable) as error:
            if self._producer.has_lost(topic):
                # Deleted, it may be; whoever comes next makes it anew.
                self._known.discard(topic)
            raise LogUnavailable(retry_after=1.0) from error
        finally:
            self._in_flight -= 1

    def consume(self, group: str, topics: re.Pattern[str], on_assigned: OnAssigned | None = None) -> KafkaConsumer:
        return KafkaConsumer(self._brokers, group, topics, on_assigned)

    async def lag(self, group: str, topics: re.Pattern[str]) -> dict[Partition, int]:
        async with kafka_errors():
            found = await self._observer.lag(group, topics)
        return {Partition(place.topic, place.partition): count for place, count in found.items()}

    async def done_until(self, group: str, topics: re.Pattern[str]) -> int:
        async with kafka_errors():
            return await self._observer.oldest_open_ms(group, topics)

    async def trim(self) -> int:
        """Nothing to do: the brokers drop what is past its time, whether or not everybody has read it."""
        return 0

    async def delete_topic(self, topic: str) -> bool:
        self._known.discard(topic)
        async with kafka_errors():
            return await self._observer.delete_topic(topic)

    async def forget(self, topics: re.Pattern[str], tenant: bytes) -> Forgotten:
        """Nothing: Kafka drops no single records; they go when their time is up."""
        return Forgotten(0, None)

    async def close(self) -> None:
        await self._producer.close()
        await self._observer.close()
