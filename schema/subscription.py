"""Live: a metric as it changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import cast

import strawberry
from strawberry import Info

from core.permissions import Permission
from resolvers.context import Context
from resolvers.series import FrameKind, check_cursor, open_stream
from resolvers.shared import shared_frames
from schema.described import enum_of
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


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="One frame of a live series.")
class SeriesFrame:
    kind: FrameKindType = strawberry.field(description="What it is.")  # type: ignore[valid-type]
    seq: int = strawberry.field(description="Counts from 1 within the epoch, without holes.")
    epoch: str = strawberry.field(description="Names this stream.")
    cursor: str = strawberry.field(description='For `resumeFrom`: the epoch and the number, such as "9f2c41d07ab3.17".')
    watermark: datetime | None = strawberry.field(description="Everything accepted before is in what was sent so far.")
    columns: ColumnsJSON = strawberry.field(description="The buckets this frame speaks of, with whole values.")


async def series(
    info: Info[Context, None], query: MetricQuery, resume_from: str | None = None
) -> AsyncGenerator[SeriesFrame, None]:
    """A metric as it changes."""
    check_cursor(resume_from)
    stream = await open_stream(info.context, query.to_domain())
    async for frame in stream.frames(resume_from):
        yield cast(SeriesFrame, frame)


async def shared_series(
    info: Info[Context, None],
    range: TimeRange | None = None,
    filters: list[Filter] | None = None,
    resume_from: str | None = None,
) -> AsyncGenerator[SeriesFrame, None]:
    """A shared question as it changes."""
    check_cursor(resume_from)
    async for frame in shared_frames(info.context, *narrowing_of(range, filters), resume_from):
        yield cast(SeriesFrame, frame)


@strawberry.type(description="What may be listened to.")
class Subscription:
    series = subscription(
        Permission.METRICS_READ,
        series,
        "A snapshot of a metric, then what changed, within a second of its acceptance. With `resumeFrom` "
        "the stream begins with a GAP, and the snapshot makes it whole.",
        cost=10,
    )
    shared_series = subscription(
        Permission.SHARED_READ,
        shared_series,
        "The answer of the question that the caller's share link shows, as `series` tells one; narrowed as "
        "`SharedQuestion.series` can be.",
        cost=10,
    )
