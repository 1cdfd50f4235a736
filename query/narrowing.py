"""A saved question as somebody may ask it who can narrow it and not widen it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from core.filters import DimensionFilter
from query.calendar import covered
from query.definitions import Metrics, check_asked
from query.question import MetricQuestion, bad


@dataclass(frozen=True, slots=True)
class Range:
    """`last`, or `from_` and `to`; nothing given is the question's own."""

    last: str | None = None
    from_: datetime | None = None
    to: datetime | None = None

    def of(self, question: MetricQuestion) -> MetricQuestion:
        """The question over this range."""
        if self == Range():
            return question
        return replace(question, last=self.last, from_=self.from_, to=self.to)


def narrowed(
    saved: MetricQuestion,
    metrics: Metrics,
    *,
    locked: Sequence[DimensionFilter],
    ranges: Sequence[str],
    dimensions: Sequence[str] | None,
    range: Range,
    filters: Sequence[DimensionFilter],
    now: datetime,
) -> MetricQuestion:
    """The question with the conditions that always hold, and with what was asked for, if that is no more.

    Conditions are added, never taken away, and only on `dimensions` (None: those it is grouped by), as what it is not
    grouped by could be read off by asking value by value. A range must lie, whole buckets counted, within the
    question's own or one of `ranges`. Metric, groups, interval, zone and bots stay as they are saved.

    Raises:
        BadInput: `not_shared` says what goes beyond; or the question that results cannot be asked.
    """
    allowed = saved.group_by if dimensions is None else dimensions
    for condition in filters:
        if condition.dimension not in allowed:
            names = ", ".join(allowed) or "none"
            raise bad("not_shared", "filters", f"This link may be narrowed by {names}; leave other dimensions out.")
    asked = range.of(replace(saved, filters=(*saved.filters, *locked, *filters)))
    check_asked(asked, metrics)
    starts, ends = _covered(asked, now)
    windows = (saved, *(replace(saved, last=last, from_=None, to=None) for last in ranges))
    if not any(first <= starts and ends <= last for first, last in (_covered(window, now) for window in windows)):
        also = f", or within the last {' or '.join(ranges)}" if ranges else ""
        raise bad("not_shared", "range", f"The range must lie within the shared question's own{also}.")
    return asked


def _covered(question: MetricQuestion, now: datetime) -> tuple[int, int]:
    """From when to when (epoch seconds) a question reads, widened to whole buckets."""
    start, end = question.span(now)
    return covered(question.interval, start, end, question.zone())
