"""The monthly quota: counted in the database, spent by each process out of a block that it took there.

All processes together pass a limit by less than one batch: whoever finds nothing left has given its rest back in the
same statement, and the one whose batch passes the limit leaves nothing for any other. While the database is away,
what was taken is spent, and then, on credit, this process's part of what was known to be left; it is paid when the
database is back. A killed process loses its block to the tenant's disadvantage: at most 100 events or a thousandth.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from core.database import Database, answered_within
from core.errors import CloudMetricsError, DatabaseUnavailable, TooMany
from core.queries import named
from core.tenancy import Tenant, TenantId

OPEN_MONTH = named("quota", "open_month")
EXCHANGE = named("quota", "exchange_quota")
RETURN = named("quota", "return_quota")

LEAST_BLOCK = 100
BLOCKS_A_MONTH = 1000
ASK_SECONDS = 1.0
# After a failure the database is not asked again this long: ingest must not wait for one that is away.
AWAY_SECONDS = 5.0
# After a refusal likewise, since whoever is over his quota asks on.
REFUSED_SECONDS = 5.0
RETURN_SECONDS = 2.0


@dataclass(slots=True)
class _Share:
    """What this process may spend of a tenant's month. `left` below 0 was spent on credit. `taken` is what all
    processes had of the month when the database last said so."""

    month: date
    limit: int
    taken: int
    left: int = 0
    refused_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class MonthQuota:
    """The shares of one process. `processes`: how many share its machine, and so the credit."""

    def __init__(self, database: Database, processes: int = 1) -> None:
        self._database = database
        self._processes = processes
        self._shares: dict[TenantId, _Share] = {}
        self._away_until = 0.0

    async def take(self, tenant: Tenant, month_usage: int, received_ms: int, count: int) -> None:
        """Spends so many events of the month in which they came. `month_usage`: those known to be counted.

        Raises:
            TooMany: the month is used up.
            DatabaseUnavailable: it is away, and nothing is left to spend meanwhile.
        """
        limit = tenant.limits.events_per_month
        if limit is None or not count:
            return
        share = self._shares.get(tenant.id)
        month = _month(received_ms)
        if share is None or share.month != month:
            share = self._shares[tenant.id] = _Share(month, limit, month_usage)
        if share.limit == limit and share.left >= count:
            share.left -= count
            return
        async with share.lock:
            if share.limit != limit:
                # Of another tier: what it set aside is no good for this one.
                share.limit, share.refused_until = limit, 0.0
                await self._return(tenant.id, share)
            while share.left < count:
                if not await self._refill(tenant, share, count, month_usage):
                    break
            share.left -= count

    def give_back(self, tenant: Tenant, received_ms: int, count: int) -> None:
        """What was taken for events that were not accepted after all."""
        share = self._shares.get(tenant.id)
        if share is not None and share.month == _month(received_ms):
            share.left += count

    async def close(self) -> None:
        """Gives the blocks' rests back; what cannot be is lost until the month ends."""
        shares, self._shares = self._shares, {}
        with suppress(TimeoutError):
            async with asyncio.timeout(RETURN_SECONDS):
                await asyncio.gather(*(self._return(tenant_id, share) for tenant_id, share in shares.items()))

    async def _refill(self, tenant: Tenant, share: _Share, count: int, month_usage: int) -> bool:
        """Whether there is a new block; if not, the batch goes on credit.

        Raises:
            TooMany, DatabaseUnavailable: it does not.
        """
        if time.monotonic() < share.refused_until:
            raise quota_exceeded(tenant, share.limit, datetime.now(UTC))
        try:
            if time.monotonic() < self._away_until:
                raise DatabaseUnavailable
            is_granted = await answered_within(ASK_SECONDS, self._exchange(tenant.id, share, count))
        except DatabaseUnavailable:
            self._away_until = max(self._away_until, time.monotonic() + AWAY_SECONDS)
            credit = (share.limit - max(share.taken, month_usage)) // self._processes
            if -share.left < credit:
                return False
            raise DatabaseUnavailable(
                "The database does not answer, and what was left of the monthly quota when it left is spent. Send the "
                "same events again.",
                retry_after=AWAY_SECONDS,
            ) from None
        if not is_granted:
            share.refused_until = time.monotonic() + REFUSED_SECONDS
            raise quota_exceeded(tenant, share.limit, datetime.now(UTC))
        return True

    async def _exchange(self, tenant_id: TenantId, share: _Share, wanted: int) -> bool:
        """One statement. What it grants is the share's even when nobody waits for it any more."""
        rest, block = share.left, max(LEAST_BLOCK, share.limit // BLOCKS_A_MONTH)
        async with self._database.as_tenant(tenant_id, is_write=True) as session:
            arguments = (share.month, rest, wanted, block, share.limit)
            row = await session.fetchrow(EXCHANGE, *arguments)
            if row is None:
                await session.execute(OPEN_MONTH, share.month)
                row = await session.fetchrow(EXCHANGE, *arguments)
        assert row is not None
        share.left += row["granted"] - rest
        share.taken = row["taken"]
        return bool(row["is_granted"])

    async def _return(self, tenant_id: TenantId, share: _Share) -> None:
        """A rest, or a debt; a rest is lost where the database does not take it."""
        if not share.left or time.monotonic() < self._away_until:
            share.left = min(share.left, 0)
            return
        unspent, share.left = share.left, 0
        with suppress(CloudMetricsError):
            async with self._database.as_tenant(tenant_id, is_write=True) as session:
                await session.execute(RETURN, share.month, unspent)


def _month(received_ms: int) -> date:
    return datetime.fromtimestamp(received_ms / 1000, UTC).date().replace(day=1)


def quota_exceeded(tenant: Tenant, limit: int, now: datetime) -> TooMany:
    """The refusal of a tenant whose month is used up; the first of next month (UTC) is when it ends."""
    reset = (now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(day=1)
    return TooMany(
        f"The monthly quota of {limit} events of tier {tenant.tier.value} is used up; it starts anew at "
        f"{reset.isoformat()}. A higher tier takes more.",
        retry_after=(reset - now).total_seconds(),
        code="quota_exceeded",
    )
