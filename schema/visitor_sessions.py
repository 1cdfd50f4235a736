"""Sessions of visitors: what they amount to, and each of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from strawberry import Info

from core.filters import EventFilter
from core.permissions import Permission
from query.visitor_sessions import DEFAULT_LIMIT, SessionsQuestion
from resolvers.context import Context
from resolvers.visitor_sessions import answer_sessions
from schema.guarded import shown_to
from schema.metrics import EventSelection, IntervalType, TimeRange
from schema.raw import RawAnswer


@strawberry.input(
    description="A question about sessions. A session is all events of one sessionId from 24 h before the range to "
    "24 h after it; it counts where its first event lies. Events without a sessionId belong to none."
)
class SessionsQuery:
    range: TimeRange = strawberry.field(description="Sessions that begin in it; with `interval` widened to buckets.")
    interval: IntervalType | None = strawberry.field(  # type: ignore[valid-type]
        default=None, description="Length of a bucket, at most 1,000 of them; no `buckets` when absent."
    )
    timezone: str | None = strawberry.field(
        default="UTC", description='IANA name, such as "Europe/Berlin"; days begin at its midnight.'
    )
    limit: int | None = strawberry.field(
        default=DEFAULT_LIMIT, description="Pages kept, 1 to 100; the rest is `__other__`."
    )
    events: EventSelection | None = strawberry.field(
        default=None, description="Which events sessions are made of, such as page views alone."
    )
    having: EventSelection | None = strawberry.field(
        default=None, description="Only sessions that have such an event among theirs."
    )
    include_bots: bool | None = strawberry.field(default=False, description="Events marked as bots as well.")

    def to_domain(self) -> SessionsQuestion:
        return SessionsQuestion(
            range=self.range.to_domain(),
            interval=self.interval,
            timezone=self.timezone or "UTC",
            limit=DEFAULT_LIMIT if self.limit is None else self.limit,
            filter=self.events.to_domain() if self.events else EventFilter(),
            having=self.having.to_domain() if self.having else None,
            include_bots=bool(self.include_bots),
        )


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="What some sessions amount to; durations in seconds, null where there is no session.")
class SessionTotals:
    count: int = strawberry.field(description="How many sessions.")
    events: int = strawberry.field(description="How many events they have.")
    events_per_session: float | None = strawberry.field(description="On average.")
    bounces: int = strawberry.field(description="Sessions of one event.")
    bounce_rate: float | None = strawberry.field(description="The part of them that bounces, 0 to 1.")
    mean_duration: float | None = strawberry.field(description="From first to last event; of a bounce 0.")
    median_duration: float | None = strawberry.field(description="Half of them are as long or shorter.")
    p90_duration: float | None = strawberry.field(description="Nine of ten are as long or shorter.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="The sessions that began within one bucket.")
class SessionBucket:
    start: datetime = strawberry.field(description="The bucket's start.")
    totals: SessionTotals = strawberry.field(description="What they amount to.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="The sessions that entered, or left, by one page.")
class SessionPage:
    page: str = strawberry.field(description="Its path; empty where sessions had no page.")
    is_other: bool = strawberry.field(description="Whether it stands for all pages beyond the limit.")
    count: int = strawberry.field(description="How many sessions.")
    share: float = strawberry.field(description="Of all sessions, 0 to 1.")
    bounces: int = strawberry.field(description="Those of them that bounced.")
    bounce_rate: float = strawberry.field(description="The part of them that bounced, 0 to 1.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="Sessions of visitors, summed up.")
class Sessions(RawAnswer):
    totals: SessionTotals = strawberry.field(description="All of them.")
    buckets: list[SessionBucket] = strawberry.field(description="By when they began, where an interval is asked for.")
    entry_pages: list[SessionPage] = strawberry.field(description="Where they entered, the commonest first.")
    exit_pages: list[SessionPage] = strawberry.field(description="Where they left, the commonest first.")
    stray_events: int = strawberry.field(description="Events of the range that belong to no session.")


@shown_to(Permission.EVENTS_READ)
@strawberry.type(
    description="One session of a visitor. What it says of the visitor is what its first event says; its events are "
    "those of `Tenant.events` with its sessionId."
)
class VisitorSession:
    session_id: str = strawberry.field(description="As sent.")
    visitor: str = strawberry.field(description="Whose it is, as `EventFilter.visitor` takes it.")
    user_id: str = strawberry.field(description="As sent.")
    anonymous_id: str = strawberry.field(description="As sent.")
    started_at: datetime = strawberry.field(description="Its first event.")
    ended_at: datetime = strawberry.field(description="Its last event.")
    duration: float = strawberry.field(description="Seconds between the two.")
    events: int = strawberry.field(description="How many events it has.")
    is_bounce: bool = strawberry.field(description="Whether it has only one.")
    entry_page: str = strawberry.field(description="The page of the first event that has one.")
    exit_page: str = strawberry.field(description="The page of the last event that has one.")
    referrer_host: str = strawberry.field(description="Host it came from, if another.")
    country: str = strawberry.field(description="ISO 3166 code.")
    device: str = strawberry.field(description="desktop, mobile, tablet, tv or bot.")
    browser: str = strawberry.field(description="Family.")
    os: str = strawberry.field(description="Family.")


async def resolve_sessions(info: Info[Context, None], query: SessionsQuery) -> Any:
    """What the sessions that were asked for amount to."""
    return await answer_sessions(info.context, query.to_domain())
