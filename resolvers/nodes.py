"""Global ids: `Type:local` in base64. An id of another tenant is answered as a missing one."""

from __future__ import annotations

import asyncio
import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import strawberry
from strawberry import Info

from core.dead_letters import Place
from core.errors import BadInput
from core.metrics import BUILT_IN
from core.tenancy import Scope
from resolvers.context import Context
from resolvers.events import EventRow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_ID_LENGTH = 256


def global_id(kind: str, local: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{local}".encode()).decode().rstrip("=")


def parse_global_id(text: str) -> tuple[str, str]:
    """Type and local id; ('', '') of what is none."""
    try:
        padded = text + "=" * (-len(text) % 4)
        kind, _, local = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return "", ""
    return (kind, local) if len(text) <= MAX_ID_LENGTH else ("", "")


def event_local_id(row: EventRow) -> str:
    return f"{(row.timestamp - EPOCH) // timedelta(microseconds=1)}:{row.event_id}"


async def resolve_node(info: Info[Context, None], id: strawberry.ID) -> Any:
    """The object with a global id, or None."""
    kind, local = parse_global_id(id)
    principal = info.context.principal
    if kind == "Tenant":
        return principal.tenant if local == str(principal.tenant.id) else None
    if kind == "Metric":
        return BUILT_IN.get(local)
    if kind == "Event":
        stamp, _, event_id = local.partition(":")
        try:
            key = (EPOCH + timedelta(microseconds=int(stamp)), UUID(event_id))
        except (ValueError, OverflowError):
            return None
        return await info.context.events.load(key)
    if kind == "DeadLetter":
        return await _dead_letter(info.context, local)
    return None


async def _dead_letter(context: Context, local: str) -> Any:
    if Scope.ADMIN not in context.principal.scopes:
        return None
    try:
        place = Place.parse(local)
    except BadInput:
        return None
    return await context.dead_letters.load(place)


async def resolve_nodes(info: Info[Context, None], ids: list[strawberry.ID]) -> list[Any]:
    """The objects with these ids, None where there is none, in the order asked."""
    # All at once, so that the events among them are one look-up.
    return await asyncio.gather(*(resolve_node(info, id) for id in ids))
