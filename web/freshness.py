"""Up to when everything that was accepted is counted."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime

from core.errors import LogUnavailable
from core.eventlog import EventLog
from core.topics import ENRICHED_TOPICS, RAW_TOPICS

CACHE_SECONDS = 0.2
SAMPLES = 1000


class Freshness:
    """Two groups count, one after the other, and the second knows only when the first handed over. So samples are kept
    of how far the first had come by when: what the second has done since such a moment says what is counted."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._asked_at = float("-inf")
        self._known_ms = 0
        # (moment, everything accepted before this was handed over by then), both in epoch milliseconds.
        self._handed_over: deque[tuple[int, int]] = deque(maxlen=SAMPLES)

    async def fresh_until(self) -> datetime:
        """That moment, never earlier than what was said before; the last known one while the log is away."""
        if time.monotonic() - self._asked_at > CACHE_SECONDS:
            self._asked_at = time.monotonic()
            try:
                moment = int(time.time() * 1000)
                self._handed_over.append((moment, await self._log.done_until("enrich", RAW_TOPICS)))
                counted = await self._log.done_until("aggregate", ENRICHED_TOPICS)
            except LogUnavailable:
                counted = 0
            reached = [until for moment, until in self._handed_over if moment <= counted]
            self._known_ms = max([self._known_ms, *reached])
        return datetime.fromtimestamp(self._known_ms / 1000, UTC)
