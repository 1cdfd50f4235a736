"""Kept answers in Valkey: one read for many of them and for their tenants' stamps of change, leases for who finds one,
bounds of bytes.

What a server lost in a crash it must not vouch for: each entry bears the server's run id, which is asked for at every
connection, and an entry of another life is none. Away, full or slow: no answers are kept, and nobody waits for it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from core.changes import KEEP_SECONDS, Change, Stamps, change_of
from core.topics import answer_bytes_key, answer_key, answer_lease_key, changed_key, changes_key
from core.valkey import VALKEY_AWAY, open_valkey

log = logging.getLogger(__name__)

STORE_SECONDS = 0.25
AWAY_SECONDS = 1.0
ENTRY_SECONDS = 30
LEASE_MS = 12_000
MAX_ENTRY_BYTES = 512 * 1024
# In half a minute; an entry lives as long, so that twice this is there at most.
MAX_TENANT_BYTES = 32 * 1024 * 1024
MAX_BYTES = 256 * 1024 * 1024

# KEYS: entry, lease, bytes of the tenant, bytes of all. ARGV: value, seconds, most of the tenant, most of all, holder.
_PUT = """
local size, window = #ARGV[1], math.floor(redis.call('TIME')[1] / 30)
local function used(key)
  local at, bytes = string.match(redis.call('GET', key) or '', '^(%d+):(%d+)$')
  return tonumber(at) == window and tonumber(bytes) or 0
end
local own, all = used(KEYS[3]) + size, used(KEYS[4]) + size
local is_kept = own <= tonumber(ARGV[3]) and all <= tonumber(ARGV[4])
if is_kept then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
  redis.call('SET', KEYS[3], string.format('%.0f:%.0f', window, own), 'EX', 60)
  redis.call('SET', KEYS[4], string.format('%.0f:%.0f', window, all), 'EX', 60)
end
if redis.call('GET', KEYS[2]) == ARGV[5] then redis.call('DEL', KEYS[2]) end
return is_kept and 1 or 0
"""
# KEYS: stamps. ARGV: seconds to keep. Begins them, where there are none.
_BEGIN = """
local known = redis.call('GET', KEYS[1])
if known then return known end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
redis.call('SET', KEYS[1], now .. ':' .. now, 'EX', ARGV[1])
return now .. ':' .. now
"""
# KEYS: lease. ARGV: holder.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

T = TypeVar("T")
Place = tuple[UUID, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: the server's life, the stamps of each tenant that was asked for, and what is kept."""

    life: str
    stamps: dict[UUID, Stamps]
    entries: dict[Place, bytes]


class AnswerStore:
    """The shared part of the answer cache. Every call answers within a quarter of a second or two, or not at all."""

    def __init__(self, url: str) -> None:
        self._client = open_valkey(url, seconds=STORE_SECONDS, connections=16, on_connect=self._greet)
        self._put = self._client.register_script(_PUT)
        self._begin = self._client.register_script(_BEGIN)
        self._release = self._client.register_script(_RELEASE)
        self._holder = os.urandom(8).hex()
        self._life = ""
        self._away_until = float("-inf")

    async def look(self, tenants: Sequence[UUID], places: Sequence[Place]) -> Seen | None:
        """Stamps of the tenants, and what is kept at those places; None while the server is away."""
        keys = [*(changed_key(tenant) for tenant in tenants), *(answer_key(*place) for place in places)]
        values: Any = await self._tried(lambda: self._client.mget(keys))
        if values is None or not self._life:
            return None
        stamps: dict[UUID, Stamps] = {}
        for tenant, value in zip(tenants, values, strict=False):
            known = Stamps.read(value) or await self._begun(tenant)
            if known is None:
                return None
            stamps[tenant] = known
        found = zip(places, values[len(tenants) :], strict=True)
        return Seen(self._life, stamps, {place: value for place, value in found if value is not None})

    async def changes(self, tenant_id: UUID, after: int) -> tuple[Stamps, list[Change]] | None:
        """What changed after a stamp, and the stamps as they are now; None when that cannot be said."""

        async def ask() -> Any:
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.get(changed_key(tenant_id))
                pipe.zrangebyscore(changes_key(tenant_id), f"({after}", "+inf", withscores=True)
                return await pipe.execute()

        answer: Any = await self._tried(ask)
        if answer is None:
            return None
        value, members = answer
        stamps = Stamps.read(value)
        if stamps is None or stamps.floor > after:
            return None
        return stamps, [change_of(member, stamp) for member, stamp in members]

    async def put(self, place: Place, value: bytes) -> None:
        """Keeps an answer, where there is room, and gives the lease of it back."""
        keys = [answer_key(*place), answer_lease_key(*place), answer_bytes_key(place[0]), answer_bytes_key()]
        if len(value) > MAX_ENTRY_BYTES:
            await self.release(place)
            return
        args: list[str | int | bytes] = [value, ENTRY_SECONDS, MAX_TENANT_BYTES, MAX_BYTES, self._holder]
        await self._tried(lambda: self._put(keys=keys, args=args))

    async def lease(self, place: Place) -> bool | None:
        """Whether this process is the one to find the answer; None while nobody can say."""

        async def ask() -> bool:
            return bool(await self._client.set(answer_lease_key(*place), self._holder, nx=True, px=LEASE_MS))

        return await self._tried(ask)

    async def is_leased(self, place: Place) -> bool:
        """Whether somebody is finding the answer."""
        return bool(await self._tried(lambda: self._client.exists(answer_lease_key(*place))))

    async def release(self, place: Place) -> None:
        """Gives a lease back without an answer."""
        await self._tried(lambda: self._release(keys=[answer_lease_key(*place)], args=[self._holder]))

    async def close(self) -> None:
        await self._client.aclose()

    async def _begun(self, tenant_id: UUID) -> Stamps | None:
        value: Any = await self._tried(lambda: self._begin(keys=[changed_key(tenant_id)], args=[KEEP_SECONDS]))
        return Stamps.read(value)

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        if time.monotonic() < self._away_until:
            return None
        try:
            return await ask()
        except VALKEY_AWAY:
            self._away_until = time.monotonic() + AWAY_SECONDS
            log.warning("answers are not kept", extra={"action": "worker_retry"})
            return None

    async def _greet(self, connection: Any) -> None:
        """As every connection begins, and then the server's life is asked for."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        text = await connection.read_response()
        lines = (text.decode() if isinstance(text, bytes) else str(text)).splitlines()
        self._life = next((line.partition(":")[2] for line in lines if line.startswith("run_id:")), "")
