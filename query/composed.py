"""Answers that are put together of others: of several metrics, beside an earlier time, without a bucket that has hardly
begun. Each part is a question of its own, so that what keeps answers keeps it once for whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from core.metrics import MetricDefinition, MetricKind
from core.tenancy import Tenant
from query.answer import METRIC_LABEL, OTHER, PERCENTILE_LABEL, Answer, Columns, Labels, Series, moment
from query.calendar import buckets_of, chosen_interval
from query.comparison import earlier
from query.definitions import each_of
from query.engine import Explained
from query.planner import Source
from query.question import MetricQuestion, check_composed


class Answers(Protocol):
    """What answers questions about one metric: the engine, or what keeps its answers."""

    async def definitions(self, tenant: Tenant, question: MetricQuestion) -> list[MetricDefinition]: ...

    async def answer(self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None) -> Answer: ...

    async def explain(
        self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None
    ) -> list[Explained]: ...


class ComposedAnswers:
    """Answers every question, over what answers those about one metric."""

    def __init__(self, parts: Answers) -> None:
        self._parts = parts

    async def definition(self, tenant: Tenant, question: MetricQuestion) -> MetricDefinition:
        """The first of `definitions`."""
        return (await self.definitions(tenant, question))[0]

    async def definitions(self, tenant: Tenant, question: MetricQuestion) -> list[MetricDefinition]:
        """The metrics of a question that can be asked, those of its formulas too. Raises as `QueryEngine.answer`."""
        check_composed(question)
        return await self._parts.definitions(tenant, question)

    async def answer(self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None) -> Answer:
        """The answer to a question. Raises as `QueryEngine.answer`."""
        check_composed(question)
        now = now or datetime.now(UTC)
        asked = _without_beginning(question, now)
        each = each_of(asked)
        if not question.metrics:
            return await self._compared(tenant, each[0], now)
        # All must be there before any is asked.
        await self._parts.definitions(tenant, question)
        return side_by_side(await asyncio.gather(*(self._compared(tenant, one, now) for one in each)))

    async def explain(self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None) -> list[Explained]:
        """What would be read, of the earlier time too. Raises as `QueryEngine.answer`."""
        check_composed(question)
        now = now or datetime.now(UTC)
        asked = _without_beginning(question, now)
        found = await self._parts.explain(tenant, replace(asked, compare_to=None), now)
        return found if asked.compare_to is None else [
            *found, *await self._parts.explain(tenant, earlier(asked, now), now)
        ]  # fmt: skip

    async def _compared(self, tenant: Tenant, question: MetricQuestion, now: datetime) -> Answer:
        if question.compare_to is None:
            return await self._parts.answer(tenant, question, now)
        answer = await self._parts.answer(tenant, replace(question, compare_to=None), now)
        before = earlier(question, now)
        if question.group_by:
            # The lines of now, whatever ranked highest then.
            before = replace(before, groups=_groups(answer, question))
        return replace(answer, comparison=await self._parts.answer(tenant, before, now))


def side_by_side(answers: Sequence[Answer]) -> Answer:
    """Answers about several metrics over the same buckets as one, whose lines are labelled with their metric."""
    first = answers[0]
    series = [
        Series({METRIC_LABEL: answer.definition.key, **line.labels}, line.values, line.total)
        for answer in answers
        for line in answer.columns.series
    ]
    comparisons = [answer.comparison for answer in answers if answer.comparison is not None]
    return replace(
        first,
        columns=Columns(first.columns.timestamps, series),
        source=max((answer.source for answer in answers), key=list(Source).index),
        fresh_until=min(answer.fresh_until for answer in answers),
        is_complete=all(answer.is_complete for answer in answers),
        rows_read=sum(answer.rows_read for answer in answers),
        took_ms=max(answer.took_ms for answer in answers),
        warnings=tuple(dict.fromkeys(warning for answer in answers for warning in answer.warnings)),
        reads=tuple(read for answer in answers for read in answer.reads),
        comparison=side_by_side(comparisons) if comparisons else None,
    )


def _groups(answer: Answer, question: MetricQuestion) -> tuple[Labels, ...]:
    """The groups that are lines of an answer, each once, in order."""
    lines = [line.labels for line in answer.columns.series]
    if answer.definition.kind is MetricKind.PERCENTILE:
        lines = [labels for labels in lines if labels[PERCENTILE_LABEL] == lines[0][PERCENTILE_LABEL]]
    found = [tuple(labels[name] for name in question.group_by) for labels in lines]
    return tuple(labels for labels in found if labels != (OTHER,) * len(labels))


def _without_beginning(question: MetricQuestion, now: datetime) -> MetricQuestion:
    """The question without its last bucket, if less of that has passed than asked for. One bucket always stays."""
    if not question.min_last_bucket:
        return question
    start, end = question.span(now)
    edges = buckets_of(question.interval, start, end, question.zone()).edges
    passed = (now.timestamp() - edges[-2]) / (edges[-1] - edges[-2])
    asked = replace(question, min_last_bucket=0.0)
    # A ranking is of the whole range: it has no last bucket.
    if question.is_whole or len(edges) < 3 or passed >= question.min_last_bucket:
        return asked
    interval = chosen_interval(question.interval, start, end)
    return replace(asked, last=None, from_=moment(edges[0]), to=moment(edges[-2]), interval=interval)
