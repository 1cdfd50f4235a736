"""Where a metric's numbers come from, once and live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from core.errors import BadInput
from core.metrics import MetricDefinition
from core.shares import rows_budget
from query.answer import Answer
from query.engine import Explained
from query.frames import Frame
from query.question import MetricQuestion, bad
from resolvers.context import Context
from resolvers.live_stream import COALESCE_SECONDS, LiveKey

MAX_QUESTIONS = 20


async def answer_series(context: Context, question: MetricQuestion) -> Answer:
    """A metric over time. For a share link, what was read is taken from its budget.

    Raises:
        BadInput, DatabaseUnavailable; TooMany: the link's rows are spent.
    """
    if context.share is None:
        return await context.backends.engine.answer(context.principal.tenant, question)
    budget = rows_budget(context.share)
    await context.backends.budgets.require(budget)
    try:
        answer = await context.backends.engine.answer(context.principal.tenant, question)
    except BadInput as refusal:
        if refusal.code == "query_too_slow":
            # Nobody knows how many rows it read; were it for nothing, the slowest questions would be the cheapest.
            await context.backends.budgets.owe(budget, budget.amount // 20)
        raise
    await context.backends.budgets.owe(budget, answer.rows_read)
    return answer


async def explain_series(context: Context, question: MetricQuestion) -> list[Explained]:
    """What a question would read. Raises BadInput, DatabaseUnavailable."""
    return await context.backends.engine.explain(context.principal.tenant, question)


@dataclass(frozen=True, slots=True)
class Asking:
    """How a caller's live questions are asked: as its queries are."""

    context: Context

    async def answer(self, question: MetricQuestion) -> Answer:
        return await answer_series(self.context, question)

    async def definitions(self, question: MetricQuestion) -> list[MetricDefinition]:
        return await definitions_of(self.context, question)


async def definitions_of(context: Context, question: MetricQuestion) -> list[MetricDefinition]:
    """The metrics that a question is about, checked.

    Raises:
        BadInput: it cannot be asked; DatabaseUnavailable.
    """
    return await context.backends.engine.definitions(context.principal.tenant, question)


async def live_key(context: Context, questions: Sequence[MetricQuestion], seconds: float = COALESCE_SECONDS) -> LiveKey:
    """The stream of questions as the caller sees it: everybody of a tenant sees the same, and the bearers of a share
    link what the link pays for.

    Raises:
        BadInput: a question cannot be asked, or there are none, or too many.
    """
    if not 1 <= len(questions) <= MAX_QUESTIONS:
        raise bad(
            "too_many_questions",
            "queries",
            f"queries takes 1 to {MAX_QUESTIONS} questions, not {len(questions)}; open another subscription.",
        )
    for index, question in enumerate(questions):
        try:
            await definitions_of(context, question)
        except BadInput as error:
            if len(questions) == 1:
                raise
            raise BadInput(error.message, code=error.code, field=f"queries[{index}].{error.field}") from None
    scope = f"share_link:{context.share.link_id}" if context.share is not None else ""
    return LiveKey(context.principal.tenant.id, tuple(questions), scope, seconds)


async def live_frames(
    context: Context, key: LiveKey, resume_from: str | None = None, *, is_forgiving: bool = False
) -> AsyncGenerator[Frame, None]:
    """A stream's frames until the reader leaves; whoever reads slowly gets fewer, and a GAP where it matters.
    `is_forgiving`: so does a cursor that is none.

    Raises:
        BadInput: the cursor is none; TooMany: too many streams; GoingAway: the reader's time is over.
        CloudMetricsError: the question cannot be answered any more.
    """
    word = asyncio.Event()
    asking = Asking(context)
    async with context.backends.hub.reading(key, asking, word.set, resume_from, is_forgiving=is_forgiving) as reader:
        while True:
            word.clear()
            for frame in reader.take():
                yield frame
            await word.wait()
