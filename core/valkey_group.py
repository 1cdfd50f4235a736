"""Who else reads for a group, and which partitions are whose: told by heartbeats, decided by each member alike."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from core.eventlog import Partition

# A member that says nothing for this long is gone; a lease on a partition ends as late.
MEMBER_SECONDS = 10

_HEARTBEAT = """
local now = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now[1])
redis.call('ZADD', KEYS[1], now[1] + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2] * 2)
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""


class Members:
    """One consumer among the members of its group."""

    def __init__(self, client: Any, group: str, name: str) -> None:
        self._client = client
        self._key = f"cm:members:{group}"
        self._name = name
        self._heartbeat = client.register_script(_HEARTBEAT)

    async def mine(self, partitions: Sequence[Partition]) -> list[Partition]:
        """Says that this member is here; of these partitions, those that fall to it among all who are."""
        found = await self._heartbeat(keys=[self._key], args=[self._name, MEMBER_SECONDS])
        members = sorted(member.decode() for member in found)
        place = members.index(self._name)
        return [partition for partition in partitions if member_of(partition, len(members)) == place]

    async def leave(self) -> None:
        await self._client.zrem(self._key, self._name)


def member_of(partition: Partition, members: int) -> int:
    """Which of so many members a partition falls to: a topic's partitions to one after the other, and no topic that
    is made moves another's."""
    return (zlib.crc32(partition.topic.encode()) + partition.number) % members
