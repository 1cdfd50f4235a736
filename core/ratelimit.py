"""Token buckets by the server's own clock, spent by leases: a process takes some of a busy key's tokens with one Lua
call and spends them in memory. Away: a local bucket, so that time is bounded.

Exact in sum: a lease is at most a second of the rate and a quarter of the tokens; it stays in the bucket's hash, and
the bucket refills to its capacity less all leases. What a lease has left comes back with the holder's next call, or
once it is idle; a holder spends nothing after the lease's end, so that of a dead one it can be dropped then.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from dataclasses import dataclass

import msgspec

from core.topics import bucket_key
from core.valkey import VALKEY_AWAY, open_valkey

log = logging.getLogger(__name__)

LIMITER_SECONDS = 0.1
AWAY_SECONDS = 1.0
# A bucket that nobody asked for this long is full again, so it need not be kept.
IDLE_SECONDS = 120
# Below this rate a lease would be a token or two.
LEAST_LEASED_PER_MINUTE = 120
LEASE_SECONDS = 2.0
# A key whose last request is longer ago gets no lease, and one that has a lease gives it back.
BUSY_SECONDS = 0.5
SWEEP_SECONDS = 0.25
RETURN_SECONDS = 0.5

# KEYS: bucket. ARGV: capacity, tokens a second, seconds to keep, the lease that comes back ('' for none) and what is
# left of it, the most that is wanted, the name of the new lease ('': spent at once) and its seconds.
# Answers tokens granted, tokens left, seconds until there is one.
_TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local tokens, at, leased, ended, ended_at, back = capacity, now, 0, 0, 0, 0
local state = redis.call('HGETALL', KEYS[1])
for n = 1, #state, 2 do
    local field, value = state[n], state[n + 1]
    if field == 'tokens' then tokens = tonumber(value)
    elseif field == 'at' then at = math.min(now, tonumber(value))
    else
        local amount, till = string.match(value, '^(%S+) (%S+)$')
        amount, till = tonumber(amount), tonumber(till)
        if till <= now then
            ended, ended_at = ended + amount, math.max(ended_at, till)
            redis.call('HDEL', KEYS[1], field)
        else
            leased = leased + amount
            if field == ARGV[4] then back = amount end
        end
    end
end
if ended_at > at then
    tokens = math.min(capacity - leased - ended, tokens + (ended_at - at) * rate)
    at = ended_at
end
tokens = math.max(0, math.min(capacity - leased, tokens + (now - at) * rate))
if back > 0 then
    tokens = tokens + math.min(back, tonumber(ARGV[5]))
    redis.call('HDEL', KEYS[1], ARGV[4])
end
local most, granted = tonumber(ARGV[6]), 0
if most >= 1 and tokens >= 1 then granted = math.max(1, math.floor(math.min(most, tokens / 4))) end
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens), 'at', string.format('%.6f', now))
if granted > 0 and ARGV[7] ~= '' then
    redis.call('HSET', KEYS[1], ARGV[7], string.format('%d %.6f', granted, now + tonumber(ARGV[8])))
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {granted, tostring(tokens), tostring(math.max(0, (1 - tokens) / rate))}
"""


class Allowance(msgspec.Struct, frozen=True):
    """A bucket's answer: `limit` a minute, `remaining` now, `reset_seconds` until full, `retry_after` if refused.

    `remaining` is at most `LEASE_SECONDS` old as far as other processes are concerned.
    """

    is_allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    retry_after: float

    def headers(self) -> dict[str, str]:
        """`RateLimit-*` as every answer bears them."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }


@dataclass(slots=True)
class _LocalBucket:
    tokens: float
    at: float


@dataclass(slots=True)
class _Lease:
    """What this process may spend of a bucket, and what the bucket had besides when it last told."""

    per_minute: int
    used_at: float
    name: str = ""
    granted: int = 0
    left: int = 0
    expires_at: float = 0.0
    tokens: float = 0.0
    told_at: float = 0.0
    refused_until: float = 0.0
    renewal: asyncio.Task[None] | None = None

    def spend(self, now: float) -> Allowance:
        self.left -= 1
        self.used_at = now
        refilled = self.tokens + (now - self.told_at) * self.per_minute / 60
        return _allowance(self.per_minute, True, min(self.per_minute - self.granted, refilled) + self.left, 0.0)


class RateLimiter:
    """Requests a minute by key; a bucket holds one minute's worth. `processes`: how many share a key's rate while
    nobody can tell what the others spend."""

    def __init__(self, url: str, processes: int = 1) -> None:
        self._client = open_valkey(url, seconds=LIMITER_SECONDS, connections=64)
        self._take_script = self._client.register_script(_TAKE)
        self._processes = processes
        self._local: dict[str, _LocalBucket] = {}
        self._away_until = 0.0
        self._leases: dict[str, _Lease] = {}
        self._holder = os.urandom(6).hex()
        self._made = 0
        self._sweeper: asyncio.Task[None] | None = None

    async def take(self, key_id: str, per_minute: int) -> Allowance:
        """Takes one token."""
        now = time.monotonic()
        lease = self._leases.get(key_id)
        if lease is not None and lease.left > 0 and now < lease.expires_at and lease.per_minute == per_minute:
            return lease.spend(now)
        if now >= self._away_until:
            try:
                if lease is None or per_minute < LEAST_LEASED_PER_MINUTE or now - lease.used_at > BUSY_SECONDS:
                    return await self._take_one(key_id, per_minute, now)
                return await self._take_leased(key_id, lease, per_minute)
            except VALKEY_AWAY:
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.warning("limiter answers locally", extra={"action": "worker_retry"})
        return self._take_locally(key_id, per_minute)

    async def _take_one(self, key_id: str, per_minute: int, now: float) -> Allowance:
        if per_minute >= LEAST_LEASED_PER_MINUTE:
            lease = self._leases.setdefault(key_id, _Lease(per_minute, now))
            lease.used_at = now
            if self._sweeper is None or self._sweeper.done():
                self._sweeper = asyncio.create_task(self._sweep())
        granted, tokens, wait = await self._call(key_id, per_minute, most=1)
        return _allowance(per_minute, granted > 0, tokens, wait)

    async def _take_leased(self, key_id: str, lease: _Lease, per_minute: int) -> Allowance:
        while True:
            now = time.monotonic()
            lease.used_at = now
            if lease.left > 0 and now < lease.expires_at and lease.per_minute == per_minute:
                return lease.spend(now)
            if now < lease.refused_until:
                refilled = lease.tokens + (now - lease.told_at) * per_minute / 60
                return _allowance(per_minute, False, min(refilled, 1.0), lease.refused_until - now)
            if lease.renewal is None or lease.renewal.done():
                lease.renewal = asyncio.create_task(self._renew(key_id, lease, per_minute))
                lease.renewal.add_done_callback(lambda done: done.cancelled() or done.exception())
            # Whoever goes away meanwhile leaves it to the others.
            renewal = lease.renewal
            await asyncio.wait({renewal})
            renewal.result()

    async def _renew(self, key_id: str, lease: _Lease, per_minute: int) -> None:
        """One call for all who wait. Its name and rest are given away before it is sent: one that is lost loses
        both, and one that comes late finds a name that is gone."""
        back, unspent, lease.name, lease.left = lease.name, lease.left, "", 0
        self._made += 1
        name, sent_at = f"{self._holder}.{self._made}", time.monotonic()
        granted, tokens, wait = await self._call(
            key_id, per_minute, most=max(1, per_minute // 60), back=back, unspent=unspent, name=name
        )
        lease.per_minute, lease.tokens, lease.told_at = per_minute, tokens, time.monotonic()
        lease.granted = lease.left = granted
        if granted:
            lease.name, lease.expires_at = name, sent_at + LEASE_SECONDS
        else:
            lease.refused_until = lease.told_at + min(max(wait, 0.001), BUSY_SECONDS)

    async def _call(
        self, key_id: str, per_minute: int, *, most: int, back: str = "", unspent: int = 0, name: str = ""
    ) -> tuple[int, float, float]:
        arguments: list[str | int | float] = [
            per_minute,
            per_minute / 60,
            IDLE_SECONDS,
            back,
            unspent,
            most,
            name,
            LEASE_SECONDS,
        ]
        answer = await self._take_script(keys=[bucket_key(key_id)], args=arguments)
        return int(answer[0]), float(answer[1]), float(answer[2])

    async def _sweep(self) -> None:
        """Gives back what idle keys have left, and forgets them."""
        while self._leases:
            await asyncio.sleep(SWEEP_SECONDS)
            idle_since = time.monotonic() - BUSY_SECONDS
            idle = [
                key_id
                for key_id, lease in self._leases.items()
                if lease.used_at < idle_since and (lease.renewal is None or lease.renewal.done())
            ]
            await self._return([(key_id, self._leases.pop(key_id)) for key_id in idle])

    async def _return(self, leases: list[tuple[str, _Lease]]) -> None:
        now = time.monotonic()
        calls = [
            self._call(key_id, lease.per_minute, most=0, back=lease.name, unspent=lease.left)
            for key_id, lease in leases
            if lease.left and now < lease.expires_at and now >= self._away_until
        ]
        await asyncio.gather(*calls, return_exceptions=True)

    def _take_locally(self, key_id: str, per_minute: int) -> Allowance:
        now = time.monotonic()
        if len(self._local) > 10_000:
            self._local.clear()
        most = max(1, per_minute // self._processes)
        bucket = self._local.setdefault(key_id, _LocalBucket(float(most), now))
        bucket.tokens = min(most, bucket.tokens + (now - bucket.at) * most / 60)
        bucket.at = now
        is_allowed = bucket.tokens >= 1
        bucket.tokens -= is_allowed
        return _allowance(per_minute, is_allowed, bucket.tokens, (1 - bucket.tokens) * 60 / most)

    async def close(self) -> None:
        """Gives all leases back; those that cannot be end by themselves."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        renewals = [lease.renewal for lease in self._leases.values() if lease.renewal is not None]
        await asyncio.gather(*renewals, return_exceptions=True)
        leases, self._leases = list(self._leases.items()), {}
        try:
            async with asyncio.timeout(RETURN_SECONDS):
                await self._return(leases)
        except TimeoutError:
            log.info("leases are left to their end", extra={"action": "stop"})
        await self._client.aclose()


def _allowance(per_minute: int, is_allowed: bool, tokens: float, wait: float) -> Allowance:
    reset = math.ceil((per_minute - tokens) * 60 / per_minute)
    return Allowance(
        is_allowed, per_minute, max(0, int(tokens)), max(0, reset), 0.0 if is_allowed else max(wait, 0.001)
    )
