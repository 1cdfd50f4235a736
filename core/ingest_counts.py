"""Counts of what became of events, on their way into the tables.

Workers count in the transaction that counts the events themselves. What the doors refuse is no event: each web process
sums it up in memory and adds it to the tables every few seconds, at most once. A process that is killed loses what it
had not added, and so does an outage that is longer than `MAX_CELLS` have room for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from uuid import UUID

from core.database import Database, Session
from core.errors import CloudMetricsError, Unavailable
from core.live import LiveBroadcast
from core.outcomes import IngestCell, IngestCounts
from core.queries import named
from core.rollups import LiveNotice, encode_notice
from core.topics import live_channel

log = logging.getLogger(__name__)

ADD = named("ingest_counts", "add_ingest_counts")
FLUSH_SECONDS = 2.0
CLOSE_SECONDS = 2.0


async def add_counts(session: Session, counts: Mapping[IngestCell, int]) -> None:
    """Adds to the tables what they do not have yet, within the caller's transaction."""
    if not counts:
        return
    rows = [
        (tenant_id, datetime.fromtimestamp(minute, UTC), outcome.value, reason, key_id, counts[cell])
        for cell in sorted(counts)
        for tenant_id, minute, outcome, reason, key_id in (cell,)
    ]
    await session.execute(ADD, *(list(column) for column in zip(*rows, strict=True)))


class CountFlusher:
    """Adds a process's counts to the tables, and tells live readers."""

    def __init__(self, database: Database, counts: IngestCounts, live: LiveBroadcast) -> None:
        self._database = database
        self._counts = counts
        self._live = live

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Flushes every few seconds, and at the end."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(stop))
        try:
            yield
        finally:
            stop.set()
            # A flush that is under way is let finish: broken off, what it holds would be lost.
            await asyncio.wait({task}, timeout=CLOSE_SECONDS)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def flush(self) -> None:
        """Adds what there is. What was sent and not acknowledged may have been added: it is not sent again."""
        cells = self._counts.take()
        if not cells:
            return
        is_sent = False
        try:
            async with self._database.as_doorkeeper(is_write=True) as session:
                is_sent = True
                await add_counts(session, cells)
        except CloudMetricsError as error:
            if not is_sent:
                self._counts.put_back(cells)
            lost = self._counts.forget_lost() + (cells.total() if is_sent else 0)
            log.warning("counts wait", extra={"action": "counts_retry", "code": error.code, "lost": lost})
            return
        await self._tell({cell.tenant_id for cell in cells})

    async def _tell(self, tenants: set[UUID]) -> None:
        notice = encode_notice(LiveNotice(int(time.time() * 1000), 0, [], [], is_of_ingest=True))
        for tenant_id in tenants:
            # Readers ask again by themselves at their next heartbeat.
            with suppress(Unavailable):
                await self._live.publish(live_channel(tenant_id), notice)

    async def _run(self, stop: asyncio.Event) -> None:
        is_last = False
        while not is_last:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    is_last = await stop.wait()
            try:
                await self.flush()
            except Exception:
                log.exception("counts lost", extra={"action": "internal_error"})
