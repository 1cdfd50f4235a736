"""Stamps of change: which minutes of which event types have another value since when, for each tenant, in Valkey.

Whoever keeps an answer keeps the stamp that stood before it was read; it is right for as long as no minute within its
range bears a younger one. A stamp is the server's clock in microseconds, raised where that stood still, so that one
set anew, after it expired or was evicted, is younger than all before. Two keys a tenant: `<floor>:<newest>`, where
changes before the floor are no longer known one by one, and a sorted set of `<minute>:<type>` by stamp, bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from core.rollups import ChangedBucket
from core.topics import changed_key, changes_key
from core.valkey import open_valkey

CHANGES_SECONDS = 2.0
# Longer than any answer is kept.
KEEP_SECONDS = 3600
MAX_KEPT = 2_000
# An update of more minutes (an import, a replay) changes everything: to tell them apart costs more than to read anew.
MAX_TOLD = 500

# KEYS: stamps, changes. ARGV: seconds to keep, most changes kept, then the members; none: everything may have changed.
_NOTE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local floor, newest = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+):(%d+)$')
floor, newest = tonumber(floor) or now, tonumber(newest) or now
local stamp = math.max(now, newest + 1)
if #ARGV == 2 then
  redis.call('DEL', KEYS[2])
  floor = stamp
end
for i = 3, #ARGV do redis.call('ZADD', KEYS[2], stamp, ARGV[i]) end
local over = redis.call('ZCARD', KEYS[2]) - ARGV[2]
if over > 0 then
  floor = tonumber(redis.call('ZRANGE', KEYS[2], over - 1, over - 1, 'WITHSCORES')[2])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, over - 1)
end
redis.call('SET', KEYS[1], string.format('%.0f:%.0f', floor, stamp), 'EX', ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 0
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A minute (epoch seconds) of an event type that has another value since `stamp`."""

    stamp: int
    minute: int
    type: str


@dataclass(frozen=True, slots=True)
class Stamps:
    """What is known of a tenant's changes: all since `floor`, the newest at `newest`."""

    floor: int
    newest: int

    @classmethod
    def read(cls, value: bytes | None) -> Stamps | None:
        """The value of the key; None where there is none."""
        floor, _, newest = (value or b"").partition(b":")
        return cls(int(floor), int(newest)) if newest else None


def change_of(member: bytes, stamp: float) -> Change:
    minute, _, event_type = member.decode().partition(":")
    return Change(int(stamp), int(minute), event_type)


class ChangeNotes:
    """Writes the stamps: the bridge's side, before anybody is told of the change."""

    def __init__(self, url: str) -> None:
        self._client = open_valkey(url, seconds=CHANGES_SECONDS, connections=4)
        self._note = self._client.register_script(_NOTE)

    async def note(self, tenant_id: UUID, changed: Iterable[ChangedBucket]) -> None:
        """Stamps minutes that have another value. Repeats only make an answer be read again."""
        members = {f"{bucket.bucket}:{bucket.type}" for bucket in changed}
        if not members:
            return
        told = sorted(members) if len(members) <= MAX_TOLD else []
        await self._note(keys=[changed_key(tenant_id), changes_key(tenant_id)], args=[KEEP_SECONDS, MAX_KEPT, *told])

    async def close(self) -> None:
        await self._client.aclose()
