"""Picks where a question is read from. A question stays data until then; from here on nothing is decided any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from core.metric_cells import combination_name
from core.metrics import MetricDefinition
from core.retention import Kept
from core.rollups import TOTAL, Resolution
from query.calendar import Buckets, buckets_of, checked_interval
from query.pieces import Piece, Since, pieces_of
from query.question import Interval, MetricQuestion, check_question


class Source(StrEnum):
    """Where an answer came from."""

    ROLLUP_1M = "ROLLUP_1M"
    ROLLUP_5M = "ROLLUP_5M"
    ROLLUP_1H = "ROLLUP_1H"
    RAW = "RAW"


SOURCES: dict[Resolution | None, Source] = {
    Resolution.HOUR: Source.ROLLUP_1H,
    Resolution.FIVE_MINUTES: Source.ROLLUP_5M,
    Resolution.MINUTE: Source.ROLLUP_1M,
    None: Source.RAW,
}
ROLLUPS = (Resolution.HOUR, Resolution.FIVE_MINUTES, Resolution.MINUTE)
# Of what became of events, there are rollups by the minute and the hour alone, with all of their dimensions in a row.
INGEST_ROLLUPS = (Resolution.HOUR, Resolution.MINUTE)
BEGINNING = -(2**62)


@dataclass(frozen=True, slots=True)
class Plan:
    """A question with everything decided. `dimension` is the rollup's: a dimension, several joined by commas, or '';
    `missing_before`: of what is before, nothing is kept any more."""

    question: MetricQuestion
    definition: MetricDefinition
    buckets: Buckets
    pieces: tuple[Piece, ...]
    dimension: str
    missing_before: datetime | None

    @property
    def source(self) -> Source:
        """Where most of it is read."""
        by_length: dict[Resolution | None, int] = {}
        for piece in self.pieces:
            by_length[piece.resolution] = by_length.get(piece.resolution, 0) + piece.end - piece.start
        return SOURCES[max(by_length, key=lambda resolution: by_length[resolution])]

    @property
    def bots(self) -> list[bool]:
        """Which values of `is_bot` count."""
        if self.definition.is_of_bots:
            return [True]
        return [False, True] if self.question.include_bots else [False]

    @property
    def parts_of_dimension(self) -> tuple[str, ...]:
        """The dimensions that a rollup row's value is made of."""
        return tuple(self.dimension.split(",")) if self.dimension else ()

    @property
    def is_filtered(self) -> bool:
        """Whether rows of one value count and those of another do not."""
        return any(condition.dimension in self.parts_of_dimension for condition in self.question.filters)


def plan_question(question: MetricQuestion, definition: MetricDefinition, now: datetime, kept: Kept) -> Plan:
    """The plan of a question about this metric, to a tenant that keeps so much.

    Raises:
        BadInput: the question is not one.
    """
    check_question(question, definition)
    buckets = _buckets(question, now)
    dimension = rollup_dimension(question, definition)
    stores = _stores(definition, dimension, now, kept)
    pieces, missing = pieces_of(buckets.edges, stores)
    missing_before = None
    if missing is not None:
        # Nothing at all is left of a range that ends before its store begins.
        since = max([missing, *(stores[piece.resolution] for piece in pieces if piece.start == piece.end)])
        missing_before = datetime.fromtimestamp(since, UTC)
    return Plan(question, definition, buckets, pieces, dimension or TOTAL, missing_before)


def _buckets(question: MetricQuestion, now: datetime) -> Buckets:
    start, end = question.span(now)
    zone = question.zone()
    if not question.is_whole:
        return buckets_of(question.interval, start, end, zone)
    # One bucket, from where the first of the interval's begins to where the last ends.
    interval = checked_interval(question.interval, start, end)
    return Buckets(
        interval, (_edges(interval, start, zone)[0], _edges(interval, end - timedelta(microseconds=1), zone)[1])
    )


def _edges(interval: Interval, moment: datetime, zone: ZoneInfo) -> tuple[int, ...]:
    return buckets_of(interval, moment, moment + timedelta(seconds=1), zone).edges


def rollup_dimension(question: MetricQuestion, definition: MetricDefinition) -> str | None:
    """Which rows of rollups have what the question groups and filters by; None: only raw events do."""
    used = {*question.group_by, *(condition.dimension for condition in question.filters)}
    if definition.outcome is not None:
        return TOTAL
    if definition.defined is None:
        # A row has one dimension beside its type; two at once were never counted together.
        used -= {"type"}
        return None if len(used) > 1 else next(iter(used), TOTAL)
    if len(used) <= 1:
        return next(iter(used), TOTAL)
    aggregate = definition.defined.aggregate
    fitting = [names for names in (aggregate.combinations if aggregate else ()) if used <= set(names)]
    return combination_name(min(fitting, key=len)) if fitting else None


def _stores(definition: MetricDefinition, dimension: str | None, now: datetime, kept: Kept) -> Since:
    """What has the question's rows, the coarsest first, and since when."""
    levels: list[Resolution | None] = [None] if definition.outcome is None else []
    has_rollups = definition.defined is None or definition.defined.ready_at is not None
    if dimension is not None and has_rollups:
        levels = [*(ROLLUPS if definition.outcome is None else INGEST_ROLLUPS), *levels]
    found = {level: kept.since(level, now) for level in levels}
    return {level: BEGINNING if since is None else int(since.timestamp()) for level, since in found.items()}
