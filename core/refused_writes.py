"""Writes that were refused leave entries in the audit trail too: a few a minute of each actor, the rest summed up.

The bound holds over all processes; the sum is kept in memory and written once a minute, so that a process which is
killed loses the count of at most one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress

from core.audit import Author, audit
from core.database import Database
from core.errors import CloudMetricsError, DatabaseUnavailable
from core.ratelimit import RateLimiter
from core.tenancy import TenantId

log = logging.getLogger(__name__)

ENTRIES_PER_MINUTE = 10
SUM_SECONDS = 60.0
# Actors whose refusals are summed at once; who comes beyond them is summed with the others of the tenant.
MAX_ACTORS = 10_000
OTHERS = "others"
REFUSED = "write.refused"
SUMMED = "write.refused_more"


class RefusedWrites:
    """Notes refusals; one a process."""

    def __init__(self, database: Database, limiter: RateLimiter) -> None:
        self._database = database
        self._limiter = limiter
        self._more: Counter[tuple[TenantId, str]] = Counter()
        self._summing: asyncio.Task[None] | None = None

    async def note(self, author: Author, what: str, reason: str) -> None:
        """One refusal of `what`, such as a mutation's name. Never raises: the caller is refused anyway."""
        allowance = await self._limiter.take(f"refused:{author.tenant_id}:{author.actor}", ENTRIES_PER_MINUTE)
        if not allowance.is_allowed:
            self._sum_up(author)
            return
        await self._write(author, REFUSED, what, {"reason": reason[:500]})

    def _sum_up(self, author: Author) -> None:
        key = (author.tenant_id, author.actor)
        if key not in self._more and len(self._more) >= MAX_ACTORS:
            key = (author.tenant_id, OTHERS)
        self._more[key] += 1
        if self._summing is None or self._summing.done():
            self._summing = asyncio.create_task(self._write_sums_later())

    async def _write_sums_later(self) -> None:
        await asyncio.sleep(SUM_SECONDS)
        await self._write_sums()

    async def _write_sums(self) -> None:
        sums, self._more = self._more, Counter()
        for (tenant_id, actor), count in sums.items():
            author = Author.operator(tenant_id, actor)
            await self._write(author, SUMMED, actor, {"count": count, "seconds": int(SUM_SECONDS)})

    async def _write(self, author: Author, action: str, subject: str, diff: dict[str, object]) -> None:
        try:
            async with self._database.as_tenant(author.tenant_id, is_write=True) as session:
                await audit(session, author, action, subject, diff)
        except CloudMetricsError as error:
            log.warning("a refusal is not in the audit trail", extra={"action": "audit", "code": error.code})

    async def close(self) -> None:
        """Writes what is summed up, if the database answers."""
        if self._summing is not None:
            self._summing.cancel()
            with suppress(asyncio.CancelledError):
                await self._summing
        with suppress(DatabaseUnavailable):
            await self._write_sums()
