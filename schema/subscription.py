"""Live: a metric as it changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import cast

import strawberry
from strawberry import Info

from core.permissions import Permission
from query.frames import Change, Frame, FrameKind
from resolvers.context import Context
from resolvers.live_source import LiveSource
from resolvers.series import live_key
from resolvers.shared import shared_frames
from resolvers.tail import tail_events
from schema.described import enum_of
from schema.events import Event, EventFilter
from schema.guarded import shown_to, subscription
from schema.metrics import Filter, MetricQuery, TimeRange, narrowing_of
from schema.scalars import ColumnsJSON

FrameKindType = enum_of(
    FrameKind,
    "What a live frame is.",
    SNAPSHOT="The whole answer.",
    DELTA="Changed buckets, whole values.",
    REVISION="The same for buckets that were closed before: late events.",
    GAP="Something may have been missed; a SNAPSHOT follows.",
    HEARTBEAT="Nothing changed.",
)


FROM = "Start of what the answer covers now: earlier buckets are no part of it any more."
TO = "Its end, exclusive."
EPOCH = "Names this stream; another one than before goes on with what the reader has, unless a GAP says otherwise."
SEQ = "Counts within the epoch, without holes but where a GAP stands."
CURSOR = "For `resumeFrom`. Opaque."
WATERMARK = "Everything accepted before is in what was sent so far."


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="One frame of a live series.")
class SeriesFrame:
    kind: FrameKindType = strawberry.field(description="What it is.")  # type: ignore[valid-type]
    seq: int = strawberry.field(description=SEQ)
    epoch: str = strawberry.field(description=EPOCH)
    cursor: str = strawberry.field(description=CURSOR)
    watermark: datetime | None = strawberry.field(description=WATERMARK)
    from_: datetime | None = strawberry.field(name="from", description=FROM)
    to: datetime | None = strawberry.field(description=TO)

    @strawberry.field(
        description="The buckets this frame speaks of, with whole values, for every series that there is now."
    )
    def columns(self) -> ColumnsJSON:
        return ColumnsJSON(cast(Frame, self).json)


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="Why a question of a set has no answer now. The others go on.")
class SeriesFault:
    code: str = strawberry.field(description="Stable, as of an error's `extensions.code`.")
    message: str = strawberry.field(description="What is wrong and what to do.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="What became of one question of a set.")
class SeriesChange:
    index: int = strawberry.field(description="Which of `queries`, from 0.")
    from_: datetime | None = strawberry.field(name="from", description=FROM)
    to: datetime | None = strawberry.field(description=TO)
    fault: SeriesFault | None = strawberry.field(description="Why it has no answer now; what is shown stays.")

    @strawberry.field(description="The buckets that changed, with whole values, for every series that there is now.")
    def columns(self) -> ColumnsJSON:
        return ColumnsJSON(cast(Change, self).json)


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="One frame of a screen of live series.")
class SeriesSetFrame:
    kind: FrameKindType = strawberry.field(description="What it is.")  # type: ignore[valid-type]
    seq: int = strawberry.field(description=SEQ)
    epoch: str = strawberry.field(description=EPOCH)
    cursor: str = strawberry.field(description=CURSOR)
    watermark: datetime | None = strawberry.field(description=WATERMARK)
    changes: list[SeriesChange] = strawberry.field(
        description="Of a SNAPSHOT one for each question, in order; else only of those that changed."
    )


async def series(
    info: Info[Context, None], query: MetricQuery, resume_from: str | None = None
) -> AsyncIterator[SeriesFrame]:
    """A metric as it changes."""
    key = await live_key(info.context, (query.to_domain(),))
    return cast(AsyncIterator[SeriesFrame], LiveSource(info.context, key, resume_from))


async def series_set(
    info: Info[Context, None], queries: list[MetricQuery], resume_from: str | None = None
) -> AsyncIterator[SeriesSetFrame]:
    """Several metrics as they change."""
    key = await live_key(info.context, [query.to_domain() for query in queries])
    return cast(AsyncIterator[SeriesSetFrame], LiveSource(info.context, key, resume_from))


async def shared_series(
    info: Info[Context, None],
    range: TimeRange | None = None,
    filters: list[Filter] | None = None,
    resume_from: str | None = None,
) -> AsyncGenerator[SeriesFrame, None]:
    """A shared question as it changes."""
    async with aclosing(shared_frames(info.context, *narrowing_of(range, filters), resume_from)) as frames:
        async for frame in frames:
            yield cast(SeriesFrame, frame)


@shown_to(Permission.EVENTS_READ)
@strawberry.type(description="Events as they are counted.")
class EventFrame:
    kind: FrameKindType = strawberry.field(  # type: ignore[valid-type]
        description="DELTA: events; HEARTBEAT: none came; GAP: some may be missing that were not counted in `dropped`."
    )
    seq: int = strawberry.field(description="Counts from 1, without holes.")
    epoch: str = strawberry.field(description="Names this stream; it cannot be resumed.")
    events: list[Event] = strawberry.field(description="The newest, newest first; at most 50.")
    sampled: bool = strawberry.field(description="Whether these are only some: more came than a reader can take.")
    dropped: int = strawberry.field(
        description="How many others came since the frame before: more than could be looked at, or than are shown."
    )


async def events(info: Info[Context, None], filter: EventFilter | None = None) -> AsyncGenerator[EventFrame, None]:
    """Events as they are counted."""
    async with aclosing(tail_events(info.context, (filter or EventFilter()).to_domain())) as frames:
        async for frame in frames:
            yield cast(EventFrame, frame)


@strawberry.type(description="What may be listened to.")
class Subscription:
    series = subscription(
        Permission.METRICS_READ,
        series,
        "A snapshot of a metric, then what changed, within a second of its acceptance. With `resumeFrom` "
        "the stream goes on from that frame, for five minutes and in whichever process; later, or when it is of "
        "another question, it begins with a GAP and a snapshot. After about an hour it ends with GOING_AWAY: resume.",
        cost=10,
    )
    series_set = subscription(
        Permission.METRICS_READ,
        series_set,
        "A whole screen on one subscription: up to 20 questions, whose frames name the question by its index. As "
        "`series` otherwise; a question that cannot be answered has a `fault`, and the others go on.",
        cost=20,
    )
    shared_series = subscription(
        Permission.SHARED_READ,
        shared_series,
        "The answer of the question that the caller's share link shows, as `series` tells one; narrowed as "
        "`SharedQuestion.series` can be.",
        cost=10,
    )
    events = subscription(
        Permission.EVENTS_READ,
        events,
        "The live tail: events that the filter takes, a moment after they are counted, at most two frames a second of "
        "the 50 newest. What is left out is counted in `dropped`.",
        cost=20,
    )
