"""The event log on Valkey Streams: one stream a partition, consumer groups for what is done.

An entry is in the append-only file before `append` returns.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from core.errors import LogFull, LogUnavailable
from core.eventlog import APPEND_SECONDS, Forgotten, Offset, OnAssigned, Partition
from core.partitioning import TENANT_BYTES, partition_of
from core.topics import is_raw_topic, is_tenants_own
from core.valkey import open_valkey
from core.valkey_consumer import ValkeyConsumer
from core.valkey_streams import (
    NEWS_LENGTH,
    START,
    TOPIC_NEWS,
    TOPICS,
    after,
    before,
    entry_key,
    groups_of,
    log_errors,
    name_of,
    partitions_of,
    stream_of,
)

SIZE_REFRESH_SECONDS = 0.5
# Room that raw events leave to the topics behind them, which must move for anything to be freed.
RAW_SHARE = 0.9
# Consumed records are dropped before their time from here on.
TRIM_SHARE = 0.6
# Entries looked at in one call, while which the server does nothing else.
FORGET_BITE = 200
# KEYS: stream. ARGV: first and last entry, how many to look at, a tenant and its length in keys, whether its go.
# Answers where to go on ('' at the end), and how many were the tenant's.
_FORGET = """
local entries, mine, last = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3]), 0, nil
for _, entry in ipairs(entries) do
  last = entry[1]
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'k' and string.sub(entry[2][i + 1], 1, tonumber(ARGV[5])) == ARGV[4] then
      mine = mine + 1
      if ARGV[6] == '1' then redis.call('XDEL', KEYS[1], entry[1]) end
    end
  end
end
if #entries < tonumber(ARGV[3]) then return {'', mine} end
return {'(' .. last, mine}
"""


class ValkeyLog:
    """`EventLog` on one Valkey server. A topic that tenants share has `partitions`, one tenant's own has one."""

    def __init__(self, url: str, *, max_bytes: int, retention_hours: int, partitions: int = 1) -> None:
        self._client = open_valkey(url, seconds=APPEND_SECONDS / 2, connections=64)
        self._max_bytes = max_bytes
        self._partitions = partitions
        self._retention_ms = retention_hours * 3_600_000
        self._size = 0
        self._size_at = float("-inf")
        self._known: set[str] = set()
        self._forget_bite = self._client.register_script(_FORGET)

    @property
    def name(self) -> str:
        return "valkey"

    async def create_topic(self, topic: str) -> None:
        names = [name_of(Partition(topic, number)) for number in range(self._count(topic))]
        async with log_errors():
            if await self._client.sadd(TOPICS, *names):
                await self._client.xadd(TOPIC_NEWS, {b"topic": topic}, maxlen=NEWS_LENGTH)
        self._known.add(topic)

    async def append(self, topic: str, key: bytes, value: bytes) -> Offset:
        try:
            async with asyncio.timeout(APPEND_SECONDS), log_errors():
                if is_raw_topic(topic):
                    await self._refuse_when_full(len(value))
                partition = Partition(topic, partition_of(key, self._count(topic)))
                entry = await self._add(partition, {b"k": key, b"v": value})
        except TimeoutError as error:
            raise LogUnavailable(retry_after=1.0) from error
        return Offset(entry.decode())

    def _count(self, topic: str) -> int:
        return 1 if is_tenants_own(topic) else self._partitions

    async def _add(self, partition: Partition, fields: dict[Any, Any]) -> Any:
        """Appends; a topic that is new, or that the server came back without, is made known first."""
        if partition.topic in self._known:
            entry = await self._client.xadd(stream_of(partition), fields, nomkstream=True)
            if entry is not None:
                return entry
        await self.create_topic(partition.topic)
        return await self._client.xadd(stream_of(partition), fields)

    def consume(self, group: str, topics: re.Pattern[str], on_assigned: OnAssigned | None = None) -> ValkeyConsumer:
        return ValkeyConsumer(self._client, group, topics, on_assigned)

    async def lag(self, group: str, topics: re.Pattern[str]) -> dict[Partition, int]:
        async with log_errors():
            return {
                partition: await self._behind(stream_of(partition), group)
                for partition in await partitions_of(self._client, topics)
            }

    async def done_until(self, group: str, topics: re.Pattern[str]) -> int:
        """Epoch milliseconds before which everything appended is committed; entry ids tell the time."""
        async with log_errors():
            now = int(time.time() * 1000)
            moments = [now]
            for partition in await partitions_of(self._client, topics):
                if await self._behind(stream_of(partition), group):
                    moments.append(await self._first_open(stream_of(partition), group, now))
        return min(moments)

    async def _first_open(self, stream: str, group: str, now: int) -> int:
        """When the oldest entry that the group has not committed was appended."""
        found = (await groups_of(self._client, stream)).get(group)
        place = found["last-delivered-id"].decode() if found else START
        entries: Any = await self._client.xrange(stream, after(place), "+", count=1)
        return min(entry_key(entries[0][0].decode())[0], now) if entries else now

    async def trim(self) -> int:
        dropped = 0
        async with log_errors():
            await self._refresh_size()
            is_tight = self._size > self._max_bytes * TRIM_SHARE
            oldest_kept = f"{int(time.time() * 1000) - self._retention_ms}-0"
            for partition in await partitions_of(self._client):
                stream = stream_of(partition)
                done = await self._done_by_all(stream)
                limit = done if is_tight else min(done, oldest_kept, key=entry_key)
                dropped += int(await self._client.xtrim(stream, minid=limit, approximate=not is_tight))
        return dropped

    async def delete_topic(self, topic: str) -> bool:
        async with log_errors():
            mine = [place for place in await partitions_of(self._client) if place.topic == topic]
            self._known.discard(topic)
            if mine:
                await self._client.srem(TOPICS, *(name_of(place) for place in mine))
            # A worker that held it may make its stream again, empty; so the stream is asked for by name as well.
            streams = {stream_of(Partition(topic)), *(stream_of(place) for place in mine)}
            return bool(await self._client.unlink(*streams)) or bool(mine)

    async def forget(self, topics: re.Pattern[str], tenant: bytes) -> Forgotten:
        """Not the last record that was read: behind it the server could not count any more what is open."""
        dropped = remaining = 0
        async with log_errors():
            for partition in await partitions_of(self._client, topics):
                stream = stream_of(partition)
                done = await self._done_by_all(stream)
                dropped += await self._forget_in(stream, START, before(done), tenant, drops=True)
                remaining += await self._forget_in(stream, done, "+", tenant, drops=False)
        return Forgotten(dropped, remaining)

    async def _forget_in(self, stream: str, start: str, end: str, tenant: bytes, *, drops: bool) -> int:
        """Drops (or counts) a tenant's entries within bounds, in bites that hold nobody up; how many."""
        found = 0
        while start:
            bounds: list[str | bytes | int] = [start, end, FORGET_BITE, tenant, TENANT_BYTES, int(drops)]
            further, mine = await self._forget_bite(keys=[stream], args=bounds)
            found += int(mine)
            start = further.decode()
        return found

    async def close(self) -> None:
        await self._client.aclose()

    async def _behind(self, stream: str, group: str) -> int:
        """Entries the group has not committed; all of them when it is not there yet."""
        found = (await groups_of(self._client, stream)).get(group)
        if found is not None and found["lag"] is not None:
            return int(found["lag"])
        return int(await self._client.xlen(stream))

    async def _done_by_all(self, stream: str) -> str:
        """The last entry that no group needs any more; with no group yet nothing is done."""
        places = [found["last-delivered-id"].decode() for found in (await groups_of(self._client, stream)).values()]
        return min(places, key=entry_key, default=START)

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
