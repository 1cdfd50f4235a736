"""What a share link shows: its one object, as its terms allow, and nothing wider."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from core.errors import NotFound, PermissionDenied
from core.filters import DimensionFilter
from core.questions import KIND as QUESTION
from core.questions import Question
from core.shares import ShareGrant
from query.answer import Answer
from query.frames import Frame
from query.narrowing import Range, narrowed
from query.question import MetricQuestion
from query.saved import read_filters, read_query
from resolvers.context import Context, Loaders
from resolvers.questions import load_question, metrics_of, query_of
from resolvers.series import answer_series, live_frames, live_key

# How long a stream goes on with a question that was edited meanwhile.
RELOAD_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SharedQuestion:
    """A question as a link shows it."""

    question: Question
    grant: ShareGrant

    @property
    def metric(self) -> MetricQuestion:
        """What is shared; whether it can still be asked is another matter."""
        return read_query(self.question.draft.query)

    async def narrowed(self, context: Context, range: Range, filters: Sequence[DimensionFilter]) -> MetricQuestion:
        """What the bearer asks, with the link's conditions.

        Raises:
            BadInput: it would be more than is shared.
        """
        terms = self.grant.terms
        metric = await query_of(context, self.question)
        return narrowed(
            metric,
            await metrics_of(context, metric),
            locked=read_filters(terms.locked_filters),
            ranges=terms.ranges,
            dimensions=terms.filter_dimensions,
            range=range,
            filters=filters,
            now=datetime.now(UTC),
        )


async def shared_question(context: Context) -> SharedQuestion | None:
    """The question that the caller's link shows; None when it shows something else.

    Raises:
        NotFound: it is gone.
    """
    grant = context.share
    if grant is None:
        raise PermissionDenied("Only a share link has a shared object.")
    if grant.object_kind != QUESTION:
        return None
    question = await load_question(context, grant.object_id)
    if question is None:
        raise NotFound("What this link showed is gone.")
    return SharedQuestion(question, grant)


async def shared_object(context: Context) -> SharedQuestion:
    """Whatever the caller's link shows. Raises NotFound: it is gone."""
    found = await shared_question(context)
    if found is None:
        raise NotFound("What this link showed is gone.")
    return found


async def answer_shared(
    context: Context,
    shared: SharedQuestion,
    range: Range,
    filters: Sequence[DimensionFilter],
    *,
    is_whole: bool = False,
) -> Answer:
    """A shared question's answer; `is_whole`: the range as one bucket.

    Raises:
        BadInput: it would be more than is shared, or cannot be asked; TooMany: the link's budget is spent.
    """
    metric = await shared.narrowed(context, range, filters)
    return await answer_series(context, replace(metric, is_whole=is_whole))


async def shared_frames(
    context: Context, range: Range, filters: Sequence[DimensionFilter], resume_from: str | None
) -> AsyncGenerator[Frame, None]:
    """A shared question as it changes. When it is edited, a GAP and what it is now follow.

    Raises:
        as `answer_shared`; NotFound when it is gone.
    """
    shared = await shared_object(context)
    while True:
        edited, looked_at = shared, time.monotonic()
        key = await live_key(context, (await shared.narrowed(context, range, filters),))
        async with aclosing(live_frames(context, key, resume_from)) as frames:
            async for frame in frames:
                yield frame
                if time.monotonic() - looked_at > RELOAD_SECONDS:
                    looked_at = time.monotonic()
                    edited = await shared_object(anew(context))
                    if edited.question.revision != shared.question.revision:
                        break
        shared, resume_from = edited, frame.cursor


def anew(context: Context) -> Context:
    """The same caller with loaders that know nothing yet."""
    return replace(context, loaders=Loaders(context.backends.database, context.principal.tenant.id))
