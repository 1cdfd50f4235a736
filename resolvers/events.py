"""Where events come from: pages by keyset, single ones by a loader."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from core.database import Database
from core.errors import BadInput
from core.filters import DimensionFilter, EventFilter
from core.queries import named
from core.tenancy import TenantId
from query.conditions import Values, check_event_filter, matches
from resolvers.context import Context
from resolvers.pages import Page, asked

LIST_EVENTS = named("events", "list_events")
FIND_EVENTS = named("events", "find_events")
FIND_MATCHING = named("events", "find_matching_events")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TYPES = 100
MAX_TEXT_LENGTH = 1024
_VISITOR = re.compile(r"-?[0-9]{1,19}", re.ASCII)

_json = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class EventRow:
    """One stored event."""

    event_id: UUID
    timestamp: datetime
    received_at: datetime
    type: str
    visitor: str
    session_id: str
    user_id: str
    anonymous_id: str
    page_path: str
    referrer_host: str
    country: str
    device: str
    browser: str
    os: str
    method: str
    status: int | None
    duration_ms: float | None
    bytes: float | None
    is_bot: bool
    properties: Any
    context: Any
    enrichment_errors: list[str]


@dataclass(frozen=True, slots=True)
class EventQuestion:
    """Which events."""

    types: tuple[str, ...] | None = None
    from_: datetime | None = None
    to: datetime | None = None
    session_id: str | None = None
    user_id: str | None = None
    include_bots: bool = True
    anonymous_id: str | None = None
    visitor: str | None = None
    conditions: tuple[DimensionFilter, ...] = ()


def event_of(row: Any) -> EventRow:
    details = _json.decode(row["details"])
    return EventRow(
        UUID(int=row["id"].int), row["ts"], row["received_at"], row["type"], str(row["visitor"]), row["session_id"],
        row["user_id"], row["anonymous_id"], row["page_path"], row["referrer_host"], row["country"], row["device"],
        row["browser"], row["os"], row["method"], row["status"], row["duration_ms"],
        float(row["bytes"]) if row["bytes"] is not None else None, row["is_bot"], details["properties"],
        details["context"], details.get("enrichment_errors", []),
    )  # fmt: skip


async def load_events(
    database: Database, tenant_id: TenantId, keys: Sequence[tuple[datetime, UUID]]
) -> list[EventRow | None]:
    """Events by (timestamp, id), in the order of the keys."""
    async with database.as_tenant(tenant_id) as session:
        rows = await session.fetch(FIND_EVENTS, [key[0] for key in keys], [key[1] for key in keys])
    found = {(row["ts"], UUID(int=row["id"].int)): event_of(row) for row in rows}
    return [found.get(key) for key in keys]


async def find_matching(
    database: Database, tenant_id: TenantId, question: EventQuestion, keys: Sequence[tuple[datetime, UUID]]
) -> list[EventRow]:
    """Those events by (timestamp, id) for which the question's conditions, anonymous id and visitor hold, newest
    first. Raises DatabaseUnavailable."""
    values = Values(5)
    query = FIND_MATCHING.filled(conditions=matches(EventFilter(conditions=question.conditions), values))
    visitor = None if question.visitor is None else int(question.visitor)
    places = [key[0] for key in keys], [key[1] for key in keys]
    async with database.as_tenant(tenant_id) as session:
        rows = await session.fetch(query, *places, question.anonymous_id, visitor, values.texts)
    return [event_of(row) for row in rows]


async def list_events(
    context: Context, question: EventQuestion, first: int | None, after: str | None
) -> Page[EventRow]:
    """A page of events, newest first.

    Raises:
        BadInput: `first`, `after` or the filter cannot be used, or it takes too long.
        DatabaseUnavailable: the store does not answer.
    """
    check_question(question)
    page = asked(context, "Event", first, after)
    stamp, event_id = event_place(page.place) if page.place is not None else (None, None)
    values = Values(12)
    query = LIST_EVENTS.filled(conditions=matches(EventFilter(conditions=question.conditions), values))
    rows = await context.backends.raw.fetch(
        context.principal.tenant, query, page.rows, stamp, event_id,
        list(question.types) if question.types is not None else None, question.from_, question.to,
        question.session_id, question.user_id, [False, True] if question.include_bots else [False],
        question.anonymous_id, None if question.visitor is None else int(question.visitor), values.texts,
    )  # fmt: skip
    return page.page([event_of(row) for row in rows], lambda row: f"{row.timestamp.isoformat()}|{row.event_id}")


def check_question(question: EventQuestion) -> None:
    """Refuses what the database could not compare.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    for name, moment in (("from", question.from_), ("to", question.to)):
        if moment is not None and (moment.tzinfo is None or not 2000 <= moment.year <= 2200):
            raise BadInput(
                f"filter.{name} must have a zone and lie in 2000 to 2200.", code="bad_range", field=f"filter.{name}"
            )
    texts = {
        "sessionId": (question.session_id,),
        "userId": (question.user_id,),
        "anonymousId": (question.anonymous_id,),
        "types": question.types or (),
    }
    for name, values in texts.items():
        if len(values) > MAX_TYPES or any(value is not None and not is_storable(value) for value in values):
            raise BadInput(
                f"filter.{name} takes texts of up to {MAX_TEXT_LENGTH} characters without NUL, at most {MAX_TYPES}.",
                code="bad_filter",
                field=f"filter.{name}",
            )
    if question.visitor is not None and not _is_visitor(question.visitor):
        raise BadInput(
            "filter.visitor takes the `visitor` of an event or a session, as it was answered.",
            code="bad_filter",
            field="filter.visitor",
        )
    check_event_filter(EventFilter(conditions=question.conditions), "filter")


def _is_visitor(text: str) -> bool:
    return bool(_VISITOR.fullmatch(text)) and -(2**63) <= int(text) < 2**63


def is_storable(text: str) -> bool:
    """Whether the database may hold such a text at all: no NUL, no half of a surrogate pair, not endless."""
    return len(text) <= MAX_TEXT_LENGTH and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def event_place(text: str) -> tuple[datetime, UUID]:
    """The place that a cursor names."""
    stamp, _, event_id = text.partition("|")
    return datetime.fromisoformat(stamp), UUID(event_id)


def event_local_id(row: EventRow) -> str:
    """An event's local id: microseconds of its time, and its own id."""
    return f"{(row.timestamp - EPOCH) // timedelta(microseconds=1)}:{row.event_id}"


def event_key(local: str) -> tuple[datetime, UUID]:
    """What `load_events` takes. Raises ValueError or OverflowError for what is no event's local id."""
    stamp, _, event_id = local.partition(":")
    return EPOCH + timedelta(microseconds=int(stamp)), UUID(event_id)
