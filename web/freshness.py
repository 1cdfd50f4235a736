"""Up to when everything that was accepted is counted."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from core.errors import LogUnavailable
from core.topics import ENRICHED, is_raw_topic
from core.valkey_log import ValkeyLog

CACHE_SECONDS = 0.2


class Freshness:
    """The older of what the two counting groups have done; kept a moment, since every answer asks."""

    def __init__(self, log: ValkeyLog) -> None:
        self._log = log
        self._asked_at = float("-inf")
        self._known = datetime.fromtimestamp(0, UTC)

    async def fresh_until(self) -> datetime:
        """That moment; the last known one while the log is away."""
        if time.monotonic() - self._asked_at > CACHE_SECONDS:
            self._asked_at = time.monotonic()
            try:
                enriched = await self._log.done_until("enrich", is_raw_topic)
                counted = await self._log.done_until("aggregate", lambda topic: topic == ENRICHED)
                self._known = datetime.fromtimestamp(min(enriched, counted) / 1000, UTC)
            except LogUnavailable:
                pass
        return self._known
