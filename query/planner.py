"""Picks where a question is read from: the coarsest rollup whose buckets fit, else raw events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from core.metrics import MetricDefinition
from core.retention import Kept
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
    """A question with everything decided. `dimension` is the rollup's; `resolution` None means raw events;
    `missing_before`: of what is before, nothing is kept any more. Of what became of events there are rollups alone."""

    question: MetricQuestion
    definition: MetricDefinition
    buckets: Buckets
    resolution: Resolution | None
    dimension: str
    missing_before: datetime | None

    @property
    def source(self) -> Source:
        return Source.RAW if self.resolution is None else _ROLLUPS[self.resolution]

    @property
    def bots(self) -> list[bool]:
        """Which values of `is_bot` count."""
        if self.definition.is_of_bots:
            return [True]
        return [False, True] if self.question.include_bots else [False]


def plan_question(question: MetricQuestion, definition: MetricDefinition, now: datetime, kept: Kept) -> Plan:
    """The plan of a question about this metric, to a tenant that keeps so much.

    Raises:
        BadInput: the question is not one.
    """
    check_question(question, definition)
    start, end = question.span(now)
    buckets = buckets_of(question.interval, start, end, question.zone())
    used = {*question.group_by, *(f.dimension for f in question.filters)} - {"type"}
    if definition.outcome is not None:
        return _plan_of_ingest(question, definition, buckets, now, kept)
    # A rollup row has one dimension beside its type; two at once were never counted together.
    candidates: list[Resolution | None] = [*_fitting(buckets), None] if len(used) <= 1 else [None]
    resolution, missing_before = _choose(candidates, datetime.fromtimestamp(buckets.edges[0], UTC), now, kept)
    return Plan(question, definition, buckets, resolution, next(iter(used), TOTAL), missing_before)


def _plan_of_ingest(
    question: MetricQuestion, definition: MetricDefinition, buckets: Buckets, now: datetime, kept: Kept
) -> Plan:
    """Counts are kept by the minute and the hour, with all of their dimensions in each row."""
    candidates: list[Resolution | None] = [r for r in _fitting(buckets) if r is not Resolution.FIVE_MINUTES]
    resolution, missing_before = _choose(candidates, datetime.fromtimestamp(buckets.edges[0], UTC), now, kept)
    return Plan(question, definition, buckets, resolution, TOTAL, missing_before)


def _fitting(buckets: Buckets) -> list[Resolution]:
    """Rollups whose buckets make up the question's, the coarsest first."""
    return [
        resolution
        for resolution in (Resolution.HOUR, Resolution.FIVE_MINUTES, Resolution.MINUTE)
        if all(edge % resolution.seconds == 0 for edge in buckets.edges)
    ]


def _choose(
    candidates: list[Resolution | None], start: datetime, now: datetime, kept: Kept
) -> tuple[Resolution | None, datetime | None]:
    """The first source that has the whole range, else the one that reaches back furthest and from when it does."""
    reach: list[tuple[datetime, Resolution | None]] = []
    for resolution in candidates:
        since = kept.since(resolution, now)
        if since is None or since <= start:
            return resolution, None
        reach.append((since, resolution))
    since, resolution = min(reach, key=lambda found: found[0])
    return resolution, since
