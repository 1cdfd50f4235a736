"""A funnel's answer: what visitors reached, by step and by group, and how long it took them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from core.queries import named
from core.tenancy import Tenant
from query.answer import OTHER
from query.funnel import FunnelQuestion, StepOrder, check_funnel
from query.funnel_statement import answer_statement, histogram_edges
from query.raw import Origin, RawEvents

SETTINGS = named("funnel", "settings")


@dataclass(frozen=True, slots=True)
class StepTimes:
    """How long visitors took from an attempt's beginning to a step, in seconds."""

    median_seconds: float
    p90_seconds: float


@dataclass(frozen=True, slots=True)
class StepFigures:
    """One step: how many reached it, which part of those of step 1 and of those of the step before (None of nobody),
    how many of them go no further (None at the last step)."""

    number: int
    name: str
    visitors: int
    share_of_first: float | None
    share_of_previous: float | None
    dropped: int | None
    times: StepTimes | None


@dataclass(frozen=True, slots=True)
class TimeBin:
    """How many visitors took more than `from_seconds` and at most `to_seconds`; the first bin takes 0 too."""

    from_seconds: float
    to_seconds: float
    visitors: int


@dataclass(frozen=True, slots=True)
class FunnelFigures:
    """A funnel's figures: of all visitors, or of one group."""

    steps: tuple[StepFigures, ...]
    conversion: float | None
    histogram: tuple[TimeBin, ...]


@dataclass(frozen=True, slots=True)
class FunnelGroup:
    """The visitors of one value; None: they did not reach the step whose value is taken."""

    value: str | None
    figures: FunnelFigures


@dataclass(frozen=True, slots=True)
class FunnelAnswer:
    """The whole; `groups` by how many entered, the rest as `__other__`. `origin.is_complete` says whether every attempt
    that began in the range has had its window."""

    figures: FunnelFigures
    groups: tuple[FunnelGroup, ...]
    origin: Origin


async def answer_funnel(
    raw: RawEvents, tenant: Tenant, question: FunnelQuestion, now: datetime | None = None
) -> FunnelAnswer:
    """The answer to a question.

    Raises:
        BadInput: it is none, or took more than 10 s; names field, limit and remedy.
        DatabaseUnavailable: the store does not answer.
    """
    check_funnel(question)
    start, end = question.span(now or datetime.now(UTC))
    statement, values = answer_statement(question, start, end)
    whole = await raw.origin(tenant, start, end + timedelta(milliseconds=question.window_ms))
    rows = await raw.fetch(tenant, statement, values, before=SETTINGS)
    origin = Origin(
        from_=start, to=end, fresh_until=whole.fresh_until, is_complete=whole.is_complete, warnings=whole.warnings
    )
    figures = {row["place"]: _figures(question, row) for row in rows}
    groups = [FunnelGroup(_value(question, row), figures[row["place"]]) for row in rows if row["place"]]
    return FunnelAnswer(figures.get(0) or _figures(question, None), tuple(groups), origin)


def _value(question: FunnelQuestion, row: Any) -> str | None:
    limit = question.breakdown.limit if question.breakdown else 0
    value: str | None = OTHER if row["place"] > limit else row["label"]
    return value


def _figures(question: FunnelQuestion, row: Any) -> FunnelFigures:
    """The figures of a row; of none, where nobody entered."""
    numbers = range(1, len(question.steps) + 1)
    reached = [0 if row is None else row[f"reached_{number}"] for number in numbers]
    steps = [
        StepFigures(
            number=number,
            name=step.title,
            visitors=visitors,
            share_of_first=_share(visitors, reached[0]),
            share_of_previous=_share(visitors, reached[max(number - 2, 0)]),
            dropped=visitors - reached[number] if number < len(reached) else None,
            times=_times(question, row, number),
        )
        for number, step, visitors in zip(numbers, question.steps, reached, strict=True)
    ]
    edges = histogram_edges(question)
    within = [0] * len(edges) if row is None else row["histogram"]
    return FunnelFigures(tuple(steps), _share(reached[-1], reached[0]), _bins(edges, within))


def _times(question: FunnelQuestion, row: Any, number: int) -> StepTimes | None:
    is_told = number == len(question.steps) if question.order is StepOrder.ANY else number > 1
    found = row[f"times_{number}"] if row is not None and is_told else None
    return None if not found or found[0] is None else StepTimes(found[0] / 1000, found[1] / 1000)


def _bins(edges: Sequence[int], within: Sequence[int]) -> tuple[TimeBin, ...]:
    """Cumulative counts as the counts of bins."""
    return tuple(
        TimeBin(low / 1000, high / 1000, count - before)
        for (low, high), (before, count) in zip(pairwise([0, *edges]), pairwise([0, *within]), strict=True)
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
