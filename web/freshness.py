"""Up to when everything that was accepted is counted, and up to when it was told."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime

from core.errors import LogUnavailable
from core.eventlog import EventLog
from core.topics import ENRICHED_TOPICS, RAW_TOPICS, UPDATES_TOPICS

CACHE_SECONDS = 0.2
SAMPLES = 1000


class Freshness:
    """Three groups follow each other: enriched, counted, told of. Each knows only when the one before handed over. So
    samples are kept of how far that one had come by when: what the next has done since such a moment says how far it
    is."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._asked_at = float("-inf")
        self._known_ms = 0
        self._told_ms = 0
        # (moment, everything accepted before this was handed over by then), both in epoch milliseconds.
        self._handed_over: deque[tuple[int, int]] = deque(maxlen=SAMPLES)
        self._counted: deque[tuple[int, int]] = deque(maxlen=SAMPLES)

    async def fresh_until(self) -> datetime:
        """Everything accepted before is counted; never earlier than what was said before, and the last known one while
        the log is away."""
        await self._look()
        return datetime.fromtimestamp(self._known_ms / 1000, UTC)

    async def told_until(self) -> datetime:
        """Everything accepted before is counted, and its change stamped (`core/changes.py`). Likewise."""
        await self._look()
        return datetime.fromtimestamp(self._told_ms / 1000, UTC)

    async def _look(self) -> None:
        if time.monotonic() - self._asked_at <= CACHE_SECONDS:
            return
        self._asked_at = time.monotonic()
        try:
            moment = _now_ms()
            self._handed_over.append((moment, await self._log.done_until("enrich", RAW_TOPICS)))
            counted = await self._log.done_until("aggregate", ENRICHED_TOPICS)
            self._known_ms = _reached(self._handed_over, counted, self._known_ms)
            # What was counted is handed over with it.
            self._counted.append((_now_ms(), self._known_ms))
            told = await self._log.done_until("bridge", UPDATES_TOPICS)
            self._told_ms = _reached(self._counted, told, self._told_ms)
        except LogUnavailable:
            return


def _now_ms() -> int:
    return int(time.time() * 1000)


def _reached(samples: deque[tuple[int, int]], done: int, known: int) -> int:
    return max([known, *(until for moment, until in samples if moment <= done)])
