"""The real access log as events: one a line, a visitor for each address and agent."""

from __future__ import annotations

import gzip
from pathlib import Path

from cloudmetrics.importing.access_log import parse_line
from core.events import EnrichedEvent, epoch_ms, hash64, new_event_id
from tests.pipeline.builders import enriched

FILE = Path(__file__).resolve().parent.parent / "data" / "access.log.gz"


def access_log_events() -> list[EnrichedEvent]:
    """Its 10,000 requests, of whichever agent, none of them marked as a bot's."""
    events = []
    for number, text in enumerate(gzip.decompress(FILE.read_bytes()).splitlines()):
        line = parse_line(text)
        at = epoch_ms(line.moment)
        events.append(
            enriched(
                id=new_event_id(at, f"{number}".encode()).bytes,
                type="http_request",
                timestamp_ms=at,
                visitor=hash64("address", f"{line.host} {line.agent}", b""),
                page_path=line.path.partition("?")[0],
                method=line.method,
                status=line.status,
            )  # fmt: skip
        )
    return events
