"""What can be asked of the brokers without being in a group: topics, their ends, and where groups stand."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from aiokafka.structs import TopicPartition

from core.kafka.client import (
    MAX_RECORD_BYTES,
    METADATA_SECONDS,
    REQUEST_SECONDS,
    has_dead_task,
    heed_group_errors,
    stop_within,
)

PEEK_SECONDS = 1.0
# Of several requests, the longest.
QUESTION_SECONDS = 8.0


class Observer:
    """Two clients, started when they are first needed. One question at a time: the clients are not for several."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._admin: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None
        self._asking = asyncio.Lock()
        self._stopping: set[asyncio.Task[None]] = set()

    async def create_topic(self, name: str, *, partitions: int, replication: int, retention_hours: int) -> None:
        """Makes a topic; harmless when it is there."""
        topic = NewTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=replication,
            topic_configs={
                "retention.ms": str(retention_hours * 3_600_000),
                "max.message.bytes": str(MAX_RECORD_BYTES),
                "min.insync.replicas": str(max(1, replication - 1)),
            },
        )
        async with self._question():
            admin = await self._started_admin()
            answer = await admin.create_topics([topic], timeout_ms=int(REQUEST_SECONDS * 1000))
        for _, code, *message in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise error(f"topic {name} cannot be made: {message}")

    async def delete_topic(self, name: str) -> bool:
        """Ends a topic; whether there was one."""
        async with self._question():
            admin = await self._started_admin()
            answer = await admin.delete_topics([name], timeout_ms=int(REQUEST_SECONDS * 1000))
        for _, code, *message in answer.topic_error_codes:
            error = for_code(code)
            if error is UnknownTopicOrPartitionError:
                return False
            if code:
                raise error(f"topic {name} cannot be deleted: {message}")
        return True

    async def lag(self, group: str, topics: re.Pattern[str]) -> dict[TopicPartition, int]:
        """Records of each partition that the group has not committed."""
        async with self._question():
            return {place: end - start for place, (start, end) in (await self._open(group, topics)).items()}

    async def oldest_open_ms(self, group: str, topics: re.Pattern[str]) -> int:
        """When the oldest record that the group has not committed was appended; now, when there is none."""
        async with self._question():
            now = int(time.time() * 1000)
            spans = await self._open(group, topics)
            behind = {place: start for place, (start, end) in spans.items() if end > start}
            return min([now, *(await self._appended_at(behind)).values()]) if behind else now

    async def close(self) -> None:
        self._put_aside()
        await asyncio.gather(*self._stopping, return_exceptions=True)

    @asynccontextmanager
    async def _question(self) -> AsyncIterator[None]:
        """One question at a time. Clients of which one failed, or was given up by who asked, are not asked again: over
        a connection whose other side is gone they would wait anew each time (see `core.kafka.client.Pulse`)."""
        async with self._asking:
            if any(client is not None and has_dead_task(client) for client in (self._admin, self._reader)):
                self._put_aside()
            try:
                async with asyncio.timeout(QUESTION_SECONDS):
                    yield
            except BaseException:
                self._put_aside()
                raise

    def _put_aside(self) -> None:
        clients, self._admin, self._reader = (self._admin, self._reader), None, None
        for client in clients:
            if client is not None:
                task = asyncio.create_task(stop_within(client))
                self._stopping.add(task)
                task.add_done_callback(self._stopping.discard)

    async def _open(self, group: str, topics: re.Pattern[str]) -> dict[TopicPartition, tuple[int, int]]:
        """From where to where each partition is not committed."""
        reader, admin = await self._started_reader(), await self._started_admin()
        # Asked of the brokers each time: what a client remembers of topics may be older than a topic.
        places = [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in await admin.describe_topics()
            if topics.fullmatch(topic["topic"])
            for partition in topic["partitions"]
        ]
        if not places:
            return {}
        if set(places) != reader.assignment():
            # Only of what is assigned does a client learn who leads it; paused, nothing of it is fetched.
            reader.assign(places)
            reader.pause(*places)
        ends = await reader.end_offsets(places)
        starts = await reader.beginning_offsets(places)
        committed = await admin.list_consumer_group_offsets(group)
        spans = {}
        for place, end in ends.items():
            found = committed.get(place)
            start = max(starts[place], found.offset) if found is not None and found.offset >= 0 else starts[place]
            spans[place] = (min(start, end), end)
        return spans

    async def _appended_at(self, places: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The time of the record at each place; of one that does not come in time: long ago."""
        reader = await self._started_reader()
        for place, offset in places.items():
            reader.seek(place, offset)
            reader.resume(place)
        moments: dict[TopicPartition, int] = {}
        end = time.monotonic() + PEEK_SECONDS
        while len(moments) < len(places) and time.monotonic() < end:
            waiting = [place for place in places if place not in moments]
            for place, records in (await reader.getmany(*waiting, timeout_ms=200, max_records=len(waiting))).items():
                moments.setdefault(place, int(records[0].timestamp))
        reader.pause(*places)
        return {place: moments.get(place, 0) for place in places}

    async def _started_admin(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._brokers, request_timeout_ms=int(REQUEST_SECONDS * 1000))
            heed_group_errors(admin)
            try:
                await admin.start()
            except BaseException:
                await stop_within(admin)
                raise
            self._admin = admin
        return self._admin

    async def _started_reader(self) -> AIOKafkaConsumer:
        if self._reader is None:
            reader = AIOKafkaConsumer(
                bootstrap_servers=self._brokers,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=MAX_RECORD_BYTES,
                request_timeout_ms=int(REQUEST_SECONDS * 1000),
                metadata_max_age_ms=int(METADATA_SECONDS * 1000),
            )
            try:
                await reader.start()
            except BaseException:
                await stop_within(reader)
                raise
            self._reader = reader
        return self._reader
