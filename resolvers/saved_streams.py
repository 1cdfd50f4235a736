"""Saved questions as they change: for who may see them, and for the bearer of a share link; edited ones begin anew."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from core.errors import NotFound
from core.permissions import Permission
from query.frames import Frame
from query.narrowing import Range
from query.question import MetricQuestion
from resolvers.context import Context
from resolvers.global_ids import missing, uuid_of
from resolvers.live_stream import LiveKey
from resolvers.questions import KIND, find_question, query_of
from resolvers.series import live_frames, live_key
from resolvers.shared import RELOAD_SECONDS, anew, shared_object

# What of a burst is told at once: the first; then the newest so often.
FRAME_SECONDS = 5.0


async def saved_key(context: Context, ids: Sequence[str]) -> LiveKey:
    """The stream of saved questions by their global ids; of none: of what the caller's share link shows.

    Raises:
        NotFound: there is no such question that the caller may see.
        BadInput: there are none or too many, or one can no longer be asked.
        PermissionDenied: the caller may read no metrics.
    """
    return await live_key(context, [await _question(context, id) for id in ids or [""]], FRAME_SECONDS)


async def saved_frames(
    context: Context, ids: Sequence[str], resume_from: str | None = None
) -> AsyncGenerator[Frame, None]:
    """Their frames; errors as `saved_key`, and as `live_frames`. A cursor that is none begins with the whole."""
    key = await saved_key(context, ids)
    while True:
        present, looked_at = key, time.monotonic()
        async with aclosing(live_frames(context, key, resume_from, is_forgiving=True)) as frames:
            async for frame in frames:
                yield frame
                resume_from = frame.cursor
                if time.monotonic() - looked_at > RELOAD_SECONDS:
                    looked_at = time.monotonic()
                    present = await saved_key(anew(context), ids)
                    if present != key:
                        break
        key = present


async def _question(context: Context, id: str) -> MetricQuestion:
    if context.share is not None:
        context.principal.require(Permission.SHARED_READ)
        shared = await shared_object(context)
        if id and uuid_of(id, KIND, field="question") != shared.question.id:
            raise missing(KIND, field="question")
        return await shared.narrowed(context, Range(), ())
    context.principal.require(Permission.QUESTIONS_READ)
    context.principal.require(Permission.METRICS_READ)
    if not id:
        raise NotFound("Say which: ?question= and the global id of a SavedQuestion.", field="question")
    return await query_of(context, await find_question(context, id))
