"""Hot sets: a tenant's one-minute totals of the last 24 hours in Valkey, one sorted set an event type.

They are copies: absolute values with their writer's offset as version, so a repeat overwrites, an older one is
refused, and all can be rebuilt from `rollup_1m`. Two marks say whether they are whole: the server's life, named before
they are filled, and the life in which they were. An emptied server has neither. A member is named
`<minute>:<bot 0|1>:<shard>`; its value stands in a hash beside the sorted set.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

import msgspec

from core.rollups import HOT_SECONDS, ChangedBucket
from core.summary import SummaryRow
from core.topics import HOT_MARK_KEY, hot_key, hot_values_key
from core.valkey import open_valkey

VALUE_SECONDS = 2.0

# KEYS: sorted set, hash. ARGV: oldest minute kept, seconds to live, then (member, minute, version, value) each.
_PUT = """
for i = 3, #ARGV, 4 do
  local member, minute, version, value = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local known = redis.call('HGET', KEYS[2], member)
  if not known or string.sub(known, 1, #version) <= version then
    redis.call('ZADD', KEYS[1], minute, member)
    redis.call('HSET', KEYS[2], member, version .. value)
  end
end
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1])
for i = 1, #old, 1000 do
  local part = {unpack(old, i, math.min(i + 999, #old))}
  redis.call('HDEL', KEYS[2], unpack(part))
  redis.call('ZREM', KEYS[1], unpack(part))
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return #old
"""


class HotValue(msgspec.Struct, frozen=True, array_like=True):
    """One member: the minute (epoch seconds) of one writer, and its summary."""

    bucket: int
    is_bot: bool
    shard: int
    summary: SummaryRow


_summary_encoder = msgspec.msgpack.Encoder()
_summary_decoder = msgspec.msgpack.Decoder(SummaryRow)
VERSION_DIGITS = 40


def version_of(offset: str) -> str:
    """An offset as text of one length that sorts as the offset does (`123`, or `123-4`)."""
    whole, _, part = offset.partition("-")
    return whole.zfill(VERSION_DIGITS // 2) + (part or "0").zfill(VERSION_DIGITS // 2)


class HotSets:
    """Reads and writes the hot sets."""

    def __init__(self, url: str) -> None:
        self._client = open_valkey(url, seconds=VALUE_SECONDS, connections=8)
        self._put = self._client.register_script(_PUT)

    async def put(
        self, tenant_id: UUID, changed: Iterable[ChangedBucket], *, shard: int, offset: str, now: float
    ) -> None:
        """Overwrites the minutes that have a value, and forgets those older than 24 hours."""
        by_type: dict[str, list[str | int | bytes]] = {}
        for bucket in changed:
            if bucket.summary is not None:
                member = f"{bucket.bucket}:{int(bucket.is_bot)}:{shard}"
                value = _summary_encoder.encode(bucket.summary)
                by_type.setdefault(bucket.type, []).extend((member, bucket.bucket, version_of(offset), value))
        for event_type, arguments in by_type.items():
            keys = [hot_key(tenant_id, event_type), hot_values_key(tenant_id, event_type)]
            oldest = int(now) - HOT_SECONDS
            await self._put(keys=keys, args=[oldest, HOT_SECONDS, *arguments])

    async def read(self, tenant_id: UUID, event_type: str, *, since: int) -> list[HotValue]:
        """The minutes of one event type from `since` (epoch seconds) on, in order."""
        members: Any = await self._client.zrangebyscore(hot_key(tenant_id, event_type), since, "+inf")
        if not members:
            return []
        values: Any = await self._client.hmget(hot_values_key(tenant_id, event_type), members)
        return [_hot_value(m.decode(), v) for m, v in zip(members, values, strict=True) if v is not None]

    async def life(self) -> str:
        """The name of the server's present life, which ends when it is emptied; given when there is none."""
        await self._client.hsetnx(HOT_MARK_KEY, "life", str(uuid4()))
        found: Any = await self._client.hget(HOT_MARK_KEY, "life")
        return found.decode() if found else ""

    async def set_whole(self, life: str) -> None:
        """Notes that all is filled that this life lacked."""
        await self._client.hset(HOT_MARK_KEY, "whole", life)

    async def is_whole(self) -> bool:
        """Whether nothing is missing: not before it was filled, nor since the server was emptied."""
        life, whole = await self._client.hmget(HOT_MARK_KEY, ["life", "whole"])
        return life is not None and life == whole

    async def close(self) -> None:
        await self._client.aclose()


def _hot_value(member: str, value: bytes) -> HotValue:
    bucket, is_bot, shard = member.split(":")
    return HotValue(int(bucket), is_bot == "1", int(shard), _summary_decoder.decode(value[VERSION_DIGITS:]))
