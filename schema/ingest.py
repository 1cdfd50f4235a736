"""Writing: events by GraphQL, with typed errors."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from strawberry import Info

from core.ingest import EventStatus
from core.permissions import Permission
from resolvers.context import Context
from resolvers.ingest import ingest_events
from schema.described import enum_of
from schema.guarded import mutation
from schema.scalars import JSONValue

EventStatusType = enum_of(
    EventStatus,
    "What became of an event.",
    ACCEPTED="It is in the log, and will be counted once.",
    DUPLICATE="Its id was taken before; it counts no second time.",
    REJECTED="It cannot be taken as it is; `code`, `field` and `message` say why.",
)


@strawberry.input(description="Where an event happened.")
class EventContextInput:
    ip: str | None = strawberry.field(default=None, description="The visitor's address; masked before it is stored.")
    user_agent: str | None = strawberry.field(default=None, description="The visitor's agent.")
    locale: str | None = strawberry.field(default=None, description="Such as en-GB.")
    page_url: str | None = strawberry.field(default=None, description="The page's address.")
    referrer: str | None = strawberry.field(default=None, description="The address before it.")


@strawberry.input(description="One event.")
class EventInput:
    type: str = strawberry.field(description="Such as page_view.")
    id: str | None = strawberry.field(default=None, description="A UUID; the same id counts once. Made when absent.")
    timestamp: datetime | None = strawberry.field(default=None, description="RFC 3339 with a zone; now when absent.")
    session_id: str | None = strawberry.field(default=None, description="Counted by `sessions`.")
    user_id: str | None = strawberry.field(default=None, description="Counted by `visitors`.")
    anonymous_id: str | None = strawberry.field(default=None, description="Counted by `visitors` without user_id.")
    properties: JSONValue | None = strawberry.field(default=None, description="An object of yours.")
    context: EventContextInput | None = strawberry.field(default=None, description="Where it happened.")

    def to_body(self) -> dict[str, Any]:
        """REST's form."""
        body = {name: value for name, value in vars(self).items() if value is not None}
        if self.context is not None:
            body["context"] = {name: value for name, value in vars(self.context).items() if value is not None}
        return body


@strawberry.input(description="Events to take, 1 to 100.")
class IngestEventsInput:
    events: list[EventInput] = strawberry.field(description="A bad one never takes the good ones down.")
    sent_at: datetime | None = strawberry.field(default=None, description="The sender's clock now; corrects skew.")
    historical: bool = strawberry.field(default=False, description="Take events of more than 5 days back.")
    dry_run: bool = strawberry.field(default=False, description="Check only.")


@strawberry.type(name="IngestedEvent", description="One event's result.")
class EventResultType:
    index: int = strawberry.field(description="Its place in the input.")
    id: str | None = strawberry.field(description="The id it was sent with, or given.")
    status: EventStatusType = strawberry.field(description="What became of it.")  # type: ignore[valid-type]
    code: str = strawberry.field(description="Why it was rejected; else empty.")
    field: str = strawberry.field(description="What was wrong; else empty.")
    message: str = strawberry.field(description="What to do; else empty.")


@strawberry.type(description="What became of the events.")
class IngestEventsPayload:
    request_id: str = strawberry.field(description="Of this request.")
    accepted: int = strawberry.field(description="How many were taken.")
    results: list[EventResultType] = strawberry.field(description="One an event, in order.")


async def resolve_ingest_events(info: Info[Context, None], input: IngestEventsInput) -> IngestEventsPayload:
    """Takes events."""
    body: dict[str, Any] = {"events": [e.to_body() for e in input.events], "historical": input.historical}
    if input.sent_at is not None:
        body["sent_at"] = input.sent_at
    receipt = await ingest_events(info.context, body, is_dry_run=input.dry_run)
    results = [
        EventResultType(
            index=r.index,
            id=r.id,
            status=r.status,
            code=r.code,
            field=r.field,
            message=r.message,
        )
        for r in receipt.results
    ]
    return IngestEventsPayload(request_id=receipt.request_id, accepted=receipt.accepted, results=results)


@strawberry.type
class IngestMutations:
    ingest_events = mutation(
        Permission.EVENTS_WRITE,
        resolve_ingest_events,
        IngestEventsPayload,
        "Takes events, as `POST /v1/events` does.",
    )
