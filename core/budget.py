"""Budgets that are spent by amounts: points of cost, rows read. One bucket each in Valkey, taken from by one Lua call,
so that those who spend at once spend no more than there is. Away: a local share of it.

Unlike `core/ratelimit.py`, which leases single tokens to busy processes, amounts differ and may be told after the fact.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from core.errors import InvalidRequest, TooMany
from core.topics import budget_key
from core.valkey import VALKEY_AWAY, open_valkey

log = logging.getLogger(__name__)

BUDGET_SECONDS = 0.5
AWAY_SECONDS = 1.0
MAX_LOCAL = 10_000

# KEYS: bucket. ARGV: capacity, refill a second, what must be there, what is taken if it is.
# Answers whether it was there, and what is left as text (below 0: owed).
_SPEND = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local capacity, rate, needed, amount = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local state = redis.call('HMGET', KEYS[1], 'left', 'at')
local left, at = tonumber(state[1]) or capacity, math.min(now, tonumber(state[2]) or now)
left = math.min(capacity, left + (now - at) * rate)
local is_there = left >= needed
if is_there then left = left - amount end
redis.call('HSET', KEYS[1], 'left', string.format('%.6f', left), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil((capacity - left) / rate) + 60)
return {is_there and 1 or 0, tostring(left)}
"""


@dataclass(frozen=True, slots=True)
class Budget:
    """So much of something in so many seconds; `name` is its bucket's, `what` for people."""

    name: str
    what: str
    amount: int
    seconds: int


@dataclass(slots=True)
class _LocalBucket:
    left: float
    at: float


class Budgets:
    """All budgets of an installation. `processes`: how many share one while nobody can tell what the others spend."""

    def __init__(self, url: str, processes: int = 1) -> None:
        self._client = open_valkey(url, seconds=BUDGET_SECONDS, connections=64)
        self._script = self._client.register_script(_SPEND)
        self._processes = processes
        self._local: dict[str, _LocalBucket] = {}
        self._away_until = 0.0

    async def spend(self, budget: Budget, amount: int) -> None:
        """Takes an amount that is known beforehand, all or nothing.

        Raises:
            InvalidRequest: more than the whole budget.
            TooMany: so much is not left; says when it will be.
        """
        if amount > budget.amount:
            raise InvalidRequest(
                f"This takes {amount} {budget.what}; there are {budget.amount} in {budget.seconds} s. Ask for less.",
                code="over_budget",
            )
        is_there, left = await self._take(budget, amount, amount)
        if not is_there:
            raise _spent(budget, amount - left)

    async def require(self, budget: Budget) -> None:
        """Refuses while nothing is left.

        Raises:
            TooMany: says when something will be.
        """
        is_there, left = await self._take(budget, 1, 0)
        if not is_there:
            raise _spent(budget, 1 - left)

    async def owe(self, budget: Budget, amount: int) -> None:
        """Takes an amount that is known only afterwards; what is not there is owed, and refills first."""
        await self._take(budget, -(2**52), amount)

    async def _take(self, budget: Budget, needed: int, amount: int) -> tuple[bool, float]:
        if time.monotonic() >= self._away_until:
            try:
                answer = await self._script(
                    keys=[budget_key(budget.name)],
                    args=[budget.amount, budget.amount / budget.seconds, needed, amount],
                )
                return bool(answer[0]), float(answer[1])
            except VALKEY_AWAY:
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.warning("budgets are kept locally", extra={"action": "worker_retry"})
        return self._take_locally(budget, needed, amount)

    def _take_locally(self, budget: Budget, needed: int, amount: int) -> tuple[bool, float]:
        now = time.monotonic()
        if len(self._local) > MAX_LOCAL:
            self._local.clear()
        most = budget.amount / self._processes
        bucket = self._local.setdefault(budget.name, _LocalBucket(most, now))
        bucket.left = min(most, bucket.left + (now - bucket.at) * most / budget.seconds)
        bucket.at = now
        is_there = bucket.left >= min(needed, most)
        if is_there:
            bucket.left -= amount
        return is_there, bucket.left

    async def close(self) -> None:
        await self._client.aclose()


def _spent(budget: Budget, missing: float) -> TooMany:
    wait = max(0.001, missing * budget.seconds / budget.amount)
    return TooMany(
        f"The {budget.amount} {budget.what} in {budget.seconds} s are spent; wait {wait:.1f} s.",
        retry_after=wait,
        code="budget_spent",
    )
