"""Keeps a worker a little ahead of the next one, and no more: a backlog waits where the next poll takes fairly.

Behind `enrich` all tenants share a few partitions, each strictly in order. Were a flood let through as fast as it can
be enriched, whoever comes later would stand behind all of it; left in the tenants' own topics, it shares every poll.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from contextlib import suppress

from core.errors import Unavailable
from core.eventlog import Consumer, EventLog, Offset, Partition, Record

# Ahead by what the next one does in this time, within these bounds: it never waits, and little stands before anybody.
# It has two batches in hand, the one at work and the one that is prepared; with less they are small, and dear.
AHEAD_SECONDS = 2.0
LEAST_AHEAD, MOST_AHEAD = 300, 600
LOOK_SECONDS = 0.1
# Nothing moves: one of the next ones died, or waits for the database. The others' records go on, slowly.
STUCK_SECONDS = 5.0


class PacedConsumer:
    """A `Consumer` that polls nothing while `group` is far behind on what comes of it."""

    def __init__(self, consumer: Consumer, log: EventLog, group: str, topics: re.Pattern[str]) -> None:
        self._consumer = consumer
        self._log = log
        self._group = group
        self._topics = topics
        self._ahead = 0
        self._most = LEAST_AHEAD
        self._done_at = self._moved_at = time.monotonic()

    async def poll(self, *, max_records: int, wait_seconds: float) -> list[Record]:
        # From half of it on it is looked at: a batch is taken while the one before it is at work, and no poll is tiny.
        if self._ahead > self._most // 2 and not await self._has_room():
            await asyncio.sleep(min(LOOK_SECONDS, wait_seconds))
            return []
        room = max(1, self._most - self._ahead)
        records = await self._consumer.poll(max_records=min(max_records, room), wait_seconds=wait_seconds)
        self._ahead += len(records)
        self._moved_at = time.monotonic()
        return records

    async def commit(self, offsets: Mapping[Partition, Offset]) -> None:
        await self._consumer.commit(offsets)

    async def rewind(self) -> None:
        await self._consumer.rewind()

    async def close(self) -> None:
        await self._consumer.close()

    async def _has_room(self) -> bool:
        expected, now = self._ahead, time.monotonic()
        # A log that does not answer this says so to whoever polls it.
        with suppress(Unavailable):
            self._ahead = sum((await self._log.lag(self._group, self._topics)).values())
        if self._ahead < expected:
            a_second = (expected - self._ahead) / max(now - self._done_at, LOOK_SECONDS)
            self._most = min(MOST_AHEAD, max(LEAST_AHEAD, int(a_second * AHEAD_SECONDS)))
            self._done_at = self._moved_at = now
        return self._ahead <= self._most // 2 or now - self._moved_at >= STUCK_SECONDS
