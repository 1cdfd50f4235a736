"""Events that come by GraphQL: the same way in as REST."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from core.errors import PermissionDenied
from core.ingest import Delivery, Receipt
from resolvers.context import Context


async def ingest_events(context: Context, body: dict[str, Any], *, is_dry_run: bool) -> Receipt:
    """Takes the good events of a body of REST's shape.

    Raises:
        CloudMetricsError: as `core.ingest.Ingest.accept`.
    """
    if context.key is None:
        raise PermissionDenied("Events are sent with a key; `createApiKey` makes one.")
    delivery = Delivery(
        key=context.key,
        month_usage=context.month_usage,
        body=msgspec.json.encode(body),
        request_id=context.request_id,
        received_ms=int(time.time() * 1000),
        is_dry_run=is_dry_run,
    )
    return await context.backends.ingest.accept(delivery)
