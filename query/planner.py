"""Picks where a question is read from: the coarsest rollup whose buckets fit, else raw events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.metrics import MetricDefinition
from core.rollups import TOTAL, Resolution
from query.calendar import Buckets, buckets_of
from query.question import MetricQuestion, check_question


class Source(StrEnum):
    """Where an answer came from."""

    ROLLUP_1M = "ROLLUP_1M"
    ROLLUP_5M = "ROLLUP_5M"
    ROLLUP_1H = "ROLLUP_1H"
    RAW = "RAW"


_ROLLUPS = {
    Resolution.HOUR: Source.ROLLUP_1H,
    Resolution.FIVE_MINUTES: Source.ROLLUP_5M,
    Resolution.MINUTE: Source.ROLLUP_1M,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A question with everything decided. `dimension` is the rollup's; `resolution` None means raw events."""

    question: MetricQuestion
    definition: MetricDefinition
    buckets: Buckets
    resolution: Resolution | None
    dimension: str

    @property
    def source(self) -> Source:
        return Source.RAW if self.resolution is None else _ROLLUPS[self.resolution]

    @property
    def bots(self) -> list[bool]:
        """Which values of `is_bot` count."""
        if self.definition.is_of_bots:
            return [True]
        return [False, True] if self.question.include_bots else [False]


def plan_question(question: MetricQuestion, now: datetime) -> Plan:
    """The plan of a question.

    Raises:
        BadInput: the question is not one.
    """
    check_question(question)
    start, end = question.span(now)
    buckets = buckets_of(question.interval, start, end, question.zone())
    used = {*question.group_by, *(f.dimension for f in question.filters)} - {"type"}
    # A rollup row has one dimension beside its type; two at once were never counted together.
    resolution = _coarsest(buckets) if len(used) <= 1 else None
    return Plan(question, question.definition(), buckets, resolution, next(iter(used), TOTAL))


def _coarsest(buckets: Buckets) -> Resolution | None:
    for resolution in (Resolution.HOUR, Resolution.FIVE_MINUTES, Resolution.MINUTE):
        if all(edge % resolution.seconds == 0 for edge in buckets.edges):
            return resolution
    return None
