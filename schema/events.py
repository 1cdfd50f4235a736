"""Raw events, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import strawberry

from core.permissions import Permission
from resolvers.events import EventQuestion, EventRow, event_local_id
from resolvers.global_ids import global_id
from schema.guarded import shown_to
from schema.metrics import Filter
from schema.node import Node
from schema.scalars import JSONValue


@strawberry.input(description="Which events; all conditions must hold.")
class EventFilter:
    types: list[str] | None = strawberry.field(default=None, description="Any of these types.")
    from_: datetime | None = strawberry.field(name="from", default=None, description="At or after.")
    to: datetime | None = strawberry.field(default=None, description="Before.")
    session_id: str | None = strawberry.field(default=None, description="Of one session.")
    user_id: str | None = strawberry.field(default=None, description="Of one user.")
    include_bots: bool = strawberry.field(default=True, description="Also those marked as bots.")
    anonymous_id: str | None = strawberry.field(default=None, description="Of one anonymous id.")
    visitor: str | None = strawberry.field(
        default=None, description="Of one visitor, as an event or a session names it: with and without a user id."
    )
    conditions: list[Filter] | None = strawberry.field(
        default=None,
        description="Up to 20. A `dimension` is here one of events, or a property by its path, such as "
        "properties.plan; GT, GTE, LT and LTE compare properties that are numbers too.",
    )

    def to_domain(self) -> EventQuestion:
        return EventQuestion(
            types=tuple(self.types) if self.types is not None else None,
            from_=self.from_,
            to=self.to,
            session_id=self.session_id,
            user_id=self.user_id,
            include_bots=self.include_bots,
            anonymous_id=self.anonymous_id,
            visitor=self.visitor,
            conditions=tuple(condition.to_domain() for condition in self.conditions or ()),
        )


@shown_to(Permission.EVENTS_READ)
@strawberry.type(description="One event as it was counted. Text that is not known is empty.")
class Event(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id("Event", event_local_id(cast(EventRow, self))))

    @strawberry.field(description="The id it was sent with, or given: a UUID.")
    def event_id(self) -> str:
        return str(cast(EventRow, self).event_id)

    timestamp: datetime = strawberry.field(description="When it happened, clock corrected.")
    received_at: datetime = strawberry.field(description="When it was accepted.")
    type: str = strawberry.field(description="Its type.")
    visitor: str = strawberry.field(
        description="Whose it is, as uniques count: a keyed hash of the user id, else the anonymous id, else address "
        "and agent. `EventFilter.visitor` takes it."
    )
    session_id: str = strawberry.field(description="As sent.")
    user_id: str = strawberry.field(description="As sent.")
    anonymous_id: str = strawberry.field(description="As sent.")
    page_path: str = strawberry.field(description="Path without query.")
    referrer_host: str = strawberry.field(description="Host it came from, if another.")
    country: str = strawberry.field(description="ISO 3166 code.")
    device: str = strawberry.field(description="desktop, mobile, tablet, tv or bot.")
    browser: str = strawberry.field(description="Family.")
    os: str = strawberry.field(description="Family.")
    method: str = strawberry.field(description="HTTP method.")
    status: int | None = strawberry.field(description="HTTP status.")
    duration_ms: float | None = strawberry.field(description="Milliseconds.")
    bytes: float | None = strawberry.field(description="Bytes; whole, as a Float since it may pass 2^31.")
    is_bot: bool = strawberry.field(description="Marked as a bot.")
    properties: JSONValue = strawberry.field(description="As sent.")
    context: JSONValue = strawberry.field(description="What enrichment kept of its context; the address is masked.")
    enrichment_errors: list[str] = strawberry.field(description="Steps that failed on it.")

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, EventRow)
