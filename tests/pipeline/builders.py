"""Events and batches for tests."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID, uuid4

from core.events import AcceptedEvent, EnrichedBatch, EnrichedEvent, RawBatch

NOW_MS = int(time.time() * 1000)


def raw_batch(tenant_id: UUID, *events: dict[str, Any], **more: Any) -> RawBatch:
    """A request whose events were all taken."""
    body = json.dumps({"events": [{"type": "page_view", **event} for event in events]}).encode()
    accepted = [AcceptedEvent(n, UUID(e["id"]) if "id" in e else uuid4(), NOW_MS) for n, e in enumerate(events)]
    return RawBatch(tenant_id, "key_test", "request", NOW_MS, accepted, body=body, **more)


def enriched(**fields: Any) -> EnrichedEvent:
    base: dict[str, Any] = {
        "id": uuid4().bytes, "type": "page_view", "timestamp_ms": NOW_MS, "received_ms": NOW_MS, "visitor": 1,
    }  # fmt: skip
    return EnrichedEvent(**{**base, **fields})


def batch_of(tenant_id: UUID, *events: EnrichedEvent, retention_class: str = "self_hosted") -> EnrichedBatch:
    return EnrichedBatch(tenant_id, retention_class, "key_test", "request", NOW_MS, list(events))
