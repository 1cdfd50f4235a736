"""The event while it is being enriched: mutable, and gone when the batch is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from core.events import IncomingEvent, RawBatch
from pipeline.enrichment.sources import EnrichmentSources

MAX_URL_LENGTH = 1024
MAX_ID_LENGTH = 256


@dataclass(slots=True)
class Draft:
    """What the steps have found so far. Names are those of `EnrichedEvent`, but for the address."""

    event: IncomingEvent
    raw: RawBatch
    # The whole address, for the steps alone; what leaves is `network`.
    ip: str = ""
    network: str = ""
    user_agent: str = ""
    visitor: int = 0
    session: int | None = None
    session_id: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    page_url: str = ""
    page_path: str = ""
    referrer: str = ""
    referrer_host: str = ""
    country: str = ""
    region: str = ""
    city: str = ""
    device: str = ""
    browser: str = ""
    os: str = ""
    status: int | None = None
    method: str = ""
    duration_ms: float | None = None
    bytes: int | None = None
    locale: str = ""
    campaign: dict[str, str] = field(default_factory=dict)
    is_bot: bool = False
    errors: list[str] = field(default_factory=list)

    def bounded(self, name: str, text: str | None, limit: int) -> str:
        """Text of at most `limit` characters; a cut is noted, never silent."""
        if text is None:
            return ""
        if len(text) > limit:
            self.errors.append(f"{name}: cut to {limit} characters")
            return text[:limit]
        return text


Step = Callable[[Draft, EnrichmentSources], None]
