"""Token buckets, one Lua call a request, by the server's own clock. Away: a local bucket, so that time is bounded."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass

from core.topics import bucket_key
from core.valkey import VALKEY_AWAY, open_valkey

log = logging.getLogger(__name__)

LIMITER_SECONDS = 0.1
AWAY_SECONDS = 1.0
# A bucket that nobody asked for this long is full again, so it need not be kept.
IDLE_SECONDS = 120

# KEYS: bucket. ARGV: capacity, tokens a second, cost. Answers allowed, tokens left, seconds until there are enough.
_TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local capacity, rate, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tokens = tonumber(state[1]) or capacity
tokens = math.min(capacity, tokens + math.max(0, now - (tonumber(state[2]) or now)) * rate)
local allowed = 0
if tokens >= cost then tokens = tokens - cost; allowed = 1 end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {allowed, tostring(tokens), tostring(math.max(0, (cost - tokens) / rate))}
"""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A bucket's answer: `limit` a minute, `remaining` now, `reset_seconds` until full, `retry_after` if refused."""

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


class RateLimiter:
    """Requests a minute by key; a bucket holds one minute's worth."""

    def __init__(self, url: str) -> None:
        self._client = open_valkey(url, seconds=LIMITER_SECONDS, connections=64)
        self._take_script = self._client.register_script(_TAKE)
        self._local: dict[str, _LocalBucket] = {}
        self._away_until = 0.0

    async def take(self, key_id: str, per_minute: int) -> Allowance:
        """Takes one token."""
        if time.monotonic() >= self._away_until:
            try:
                answer = await self._take_script(
                    keys=[bucket_key(key_id)], args=[per_minute, per_minute / 60, 1, IDLE_SECONDS]
                )
                return _allowance(per_minute, bool(answer[0]), float(answer[1]), float(answer[2]))
            except VALKEY_AWAY:
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.warning("limiter answers locally", extra={"action": "worker_retry"})
        return self._take_locally(key_id, per_minute)

    def _take_locally(self, key_id: str, per_minute: int) -> Allowance:
        now = time.monotonic()
        if len(self._local) > 10_000:
            self._local.clear()
        bucket = self._local.setdefault(key_id, _LocalBucket(float(per_minute), now))
        bucket.tokens = min(per_minute, bucket.tokens + (now - bucket.at) * per_minute / 60)
        bucket.at = now
        is_allowed = bucket.tokens >= 1
        bucket.tokens -= is_allowed
        return _allowance(per_minute, is_allowed, bucket.tokens, (1 - bucket.tokens) * 60 / per_minute)

    async def close(self) -> None:
        await self._client.aclose()


def _allowance(per_minute: int, is_allowed: bool, tokens: float, wait: float) -> Allowance:
    reset = math.ceil((per_minute - tokens) * 60 / per_minute)
    return Allowance(
        is_allowed, per_minute, max(0, int(tokens)), max(0, reset), 0.0 if is_allowed else max(wait, 0.001)
    )
