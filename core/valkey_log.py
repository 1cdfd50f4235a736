"""The event log on Valkey Streams: one stream a topic, one partition a stream, consumer groups for what is done.

An entry is in the append-only file before `append` returns. Order within a group needs one reader at a time, so a
consumer holds a lease on a stream while it reads; on taking a lease it rewinds the group to its oldest pending
entry (or to the offset it keeps elsewhere), which reclaims whatever a dead consumer had taken and not committed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import OutOfMemoryError, ResponseError

from core.errors import LogFull, LogUnavailable
from core.eventlog import APPEND_SECONDS, Offset, OnAssigned, Partition, Record
from core.topics import is_raw_topic
from core.valkey import VALKEY_AWAY, open_valkey

log = logging.getLogger(__name__)

PREFIX = "cm:log:"
TOPICS = "cm:log-topics"
LEASE_SECONDS = 10
LEASE_RENEW_SECONDS = 3.0
TOPIC_REFRESH_SECONDS = 1.0
SIZE_REFRESH_SECONDS = 0.5
BLOCK_SECONDS = 1.0
TRIM_BATCH = 1000
# Room that raw events leave to the topics behind them, which must move for anything to be freed.
RAW_SHARE = 0.9
# Consumed records are dropped before their time from here on.
TRIM_SHARE = 0.6

_RENEW_OR_TAKE = """
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]); return 2 end
if not owner then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]); return 1 end
return 0
"""
_GIVE_BACK = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]); return 1 end
return 0
"""


def stream_of(topic: str) -> str:
    return PREFIX + topic


def before(entry: str) -> str:
    """The entry id just below this one."""
    milliseconds, sequence = entry.split("-")
    if int(sequence) > 0:
        return f"{milliseconds}-{int(sequence) - 1}"
    return f"{max(int(milliseconds) - 1, 0)}-{2**64 - 1 if int(milliseconds) else 0}"


def entry_key(entry: str) -> tuple[int, int]:
    """An entry id as something that compares."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


@asynccontextmanager
async def _log_errors() -> AsyncIterator[None]:
    try:
        yield
    except OutOfMemoryError as error:
        raise LogFull(retry_after=5.0) from error
    except VALKEY_AWAY as error:
        raise LogUnavailable(retry_after=1.0) from error


class ValkeyLog:
    """`EventLog` on one Valkey server."""

    def __init__(self, url: str, *, max_bytes: int, retention_hours: int) -> None:
        self._client = open_valkey(url, seconds=APPEND_SECONDS / 2, connections=64)
        self._max_bytes = max_bytes
        self._retention_ms = retention_hours * 3_600_000
        self._size = 0
        self._size_at = float("-inf")
        self._known: set[str] = set()

    async def create_topic(self, topic: str) -> None:
        async with _log_errors():
            await self._client.sadd(TOPICS, topic)
        self._known.add(topic)

    async def append(self, topic: str, key: bytes, value: bytes) -> Offset:
        try:
            async with asyncio.timeout(APPEND_SECONDS), _log_errors():
                if is_raw_topic(topic):
                    await self._refuse_when_full(len(value))
                if topic not in self._known:
                    await self.create_topic(topic)
                entry: Any = await self._client.xadd(stream_of(topic), {b"k": key, b"v": value})
        except TimeoutError as error:
            raise LogUnavailable(retry_after=1.0) from error
        return Offset(entry.decode())

    def consume(
        self, group: str, matches: Callable[[str], bool], on_assigned: OnAssigned | None = None
    ) -> ValkeyConsumer:
        return ValkeyConsumer(self._client, group, matches, on_assigned)

    async def lag(self, group: str, matches: Callable[[str], bool]) -> dict[Partition, int]:
        async with _log_errors():
            return {Partition(t): await self._behind(stream_of(t), group) for t in await self._topics() if matches(t)}

    async def done_until(self, group: str, matches: Callable[[str], bool]) -> int:
        """Epoch milliseconds before which everything appended is committed; entry ids tell the time."""
        async with _log_errors():
            now = int(time.time() * 1000)
            moments = [now]
            for topic in await self._topics():
                if matches(topic) and await self._behind(stream_of(topic), group):
                    moments.append(await self._first_open(stream_of(topic), group, now))
        return min(moments)

    async def _first_open(self, stream: str, group: str, now: int) -> int:
        for info in await self._groups(stream):
            if info["name"].decode() == group:
                pending = await self._client.xpending(stream, group)
                first = pending["min"] if pending["pending"] else info["last-delivered-id"]
                return min(entry_key(first.decode())[0], now)
        return 0

    async def lengths(self) -> dict[str, int]:
        """Records now held, by topic."""
        async with _log_errors():
            return {topic: int(await self._client.xlen(stream_of(topic))) for topic in await self._topics()}

    async def trim(self) -> int:
        dropped = 0
        async with _log_errors():
            await self._refresh_size()
            is_tight = self._size > self._max_bytes * TRIM_SHARE
            oldest_kept = f"{int(time.time() * 1000) - self._retention_ms}-0"
            for topic in await self._topics():
                stream = stream_of(topic)
                done = await self._done_by_all(stream)
                limit = done if is_tight else min(done, oldest_kept, key=entry_key)
                dropped += int(await self._client.xtrim(stream, minid=limit, approximate=not is_tight))
        return dropped

    async def close(self) -> None:
        await self._client.aclose()

    async def _topics(self) -> list[str]:
        members: Any = await self._client.smembers(TOPICS)
        return sorted(member.decode() for member in members)

    async def _groups(self, stream: str) -> list[dict[str, Any]]:
        try:
            groups: list[dict[str, Any]] = await self._client.xinfo_groups(stream)
        except ResponseError:
            return []
        return groups

    async def _behind(self, stream: str, group: str) -> int:
        """Entries the group has not committed; all of them when it is not there yet, or was just rewound."""
        for info in await self._groups(stream):
            if info["name"].decode() == group and info.get("lag") is not None:
                return int(info["lag"]) + int(info["pending"])
        return int(await self._client.xlen(stream))

    async def _done_by_all(self, stream: str) -> str:
        """The first entry that some group still needs; with no group yet nothing is done."""
        groups = await self._groups(stream)
        limits = []
        for info in groups:
            pending = await self._client.xpending(stream, info["name"])
            first = pending["min"] if pending["pending"] else info["last-delivered-id"]
            limits.append(first.decode())
        return min(limits, key=entry_key) if limits else "0-0"

    async def _refuse_when_full(self, size: int) -> None:
        if time.monotonic() - self._size_at > SIZE_REFRESH_SECONDS:
            await self._refresh_size()
        if self._size + size > self._max_bytes * RAW_SHARE:
            raise LogFull(retry_after=5.0)
        self._size += size

    async def _refresh_size(self) -> None:
        self._size_at = time.monotonic()
        memory = await self._client.info("memory")
        self._size = int(memory["used_memory"])


class ValkeyConsumer:
    """`Consumer` on Valkey Streams."""

    def __init__(self, client: Any, group: str, matches: Callable[[str], bool], on_assigned: OnAssigned | None) -> None:
        self._client = client
        self._group = group
        self._matches = matches
        self._on_assigned = on_assigned
        self._name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._held: dict[str, float] = {}
        self._looked_at = float("-inf")
        self._renew_or_take = client.register_script(_RENEW_OR_TAKE)
        self._give_back = client.register_script(_GIVE_BACK)

    async def poll(self, *, max_records: int, wait_seconds: float) -> list[Record]:
        async with _log_errors():
            await self._keep_leases()
            if not self._held:
                await asyncio.sleep(min(wait_seconds, TOPIC_REFRESH_SECONDS / 4))
                return []
            streams = {stream_of(topic): ">" for topic in self._held}
            try:
                answer = await self._client.xreadgroup(
                    self._group,
                    self._name,
                    streams,
                    count=max(1, max_records // len(streams)),
                    block=max(1, int(min(wait_seconds, BLOCK_SECONDS) * 1000)),
                )
            except ResponseError:
                # The group is gone with a server that restarted empty: take everything anew.
                self._held.clear()
                return []
        return self._records(answer)

    async def commit(self, offsets: Mapping[Partition, Offset]) -> None:
        async with _log_errors():
            for partition, offset in offsets.items():
                stream = stream_of(partition.topic)
                last = before(offset)
                while pending := await self._client.xpending_range(stream, self._group, "-", last, TRIM_BATCH):
                    await self._client.xack(stream, self._group, *(entry["message_id"] for entry in pending))

    async def release(self, partition: Partition) -> None:
        self._held.pop(partition.topic, None)
        self._looked_at = float("-inf")
        async with _log_errors():
            await self._give_back(keys=[self._lease(partition.topic)], args=[self._name])

    async def close(self) -> None:
        for topic in list(self._held):
            try:
                await self.release(Partition(topic))
            except LogUnavailable:
                log.warning("lease left to expire", extra={"action": "leave_group"})

    def _lease(self, topic: str) -> str:
        return f"cm:lease:{self._group}:{topic}"

    def _records(self, answer: Any) -> list[Record]:
        streams = answer.items() if isinstance(answer, dict) else (answer or [])
        records = []
        for stream, batches in streams:
            topic = stream.decode().removeprefix(PREFIX)
            entries = batches[0] if batches and isinstance(batches[0], list) else batches
            for entry, fields in entries:
                offset = entry.decode()
                milliseconds, sequence = entry_key(offset)
                following = Offset(f"{milliseconds}-{sequence + 1}")
                records.append(Record(Partition(topic), Offset(offset), following, fields[b"k"], fields[b"v"]))
        return records

    async def _keep_leases(self) -> None:
        now = time.monotonic()
        is_look = now - self._looked_at > TOPIC_REFRESH_SECONDS
        if is_look:
            self._looked_at = now
            members = await self._client.smembers(TOPICS)
            wanted = {topic for topic in (member.decode() for member in members) if self._matches(topic)}
        else:
            wanted = set(self._held)
        for topic in sorted(wanted):
            if topic not in self._held or now - self._held[topic] > LEASE_RENEW_SECONDS:
                await self._keep_lease(topic, now)

    async def _keep_lease(self, topic: str, now: float) -> None:
        state = int(await self._renew_or_take(keys=[self._lease(topic)], args=[self._name, LEASE_SECONDS * 1000]))
        if state == 0:
            self._held.pop(topic, None)
            return
        if topic not in self._held:
            await self._assign(topic)
        self._held[topic] = now

    async def _assign(self, topic: str) -> None:
        """Rewinds the group to what this consumer must see next: its own stored offset, else the oldest pending."""
        stream = stream_of(topic)
        try:
            await self._client.xgroup_create(stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        partition = Partition(topic)
        stored = await self._on_assigned([partition]) if self._on_assigned else {}
        if partition in stored:
            await self.commit({partition: stored[partition]})
        pending = await self._client.xpending(stream, self._group)
        if partition in stored:
            last = before(stored[partition])
        elif pending["pending"]:
            last = before(pending["min"].decode())
        else:
            return
        delivered = [
            g["last-delivered-id"].decode()
            for g in await self._client.xinfo_groups(stream)
            if g["name"].decode() == self._group
        ]
        # Moving the group makes the server forget how far behind it is, so only when it must move.
        if delivered != [last]:
            await self._client.xgroup_setid(stream, self._group, last)
