"""Metrics, questions about them, and answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import strawberry
from strawberry import Info

from core.filters import DimensionFilter, EventFilter, FilterOp
from core.metric_definitions import EventAggregate
from core.metrics import MetricKind
from core.permissions import Permission
from query.answer import METRIC_LABEL, Answer, Columns
from query.answer import Series as SeriesColumns
from query.narrowing import Range
from query.planner import Source
from query.question import (
    DEFAULT_LIMIT,
    DEFAULT_PERCENTILES,
    AdHocAggregate,
    Alignment,
    Comparison,
    Interval,
    MetricQuestion,
)
from resolvers.context import Context
from resolvers.series import answer_series
from schema.described import enum_of
from schema.guarded import shown_to
from schema.remembered import remembered
from schema.scalars import ColumnsJSON

# Kinds whose groups add up to the whole.
ADDING = frozenset({MetricKind.COUNT, MetricKind.SUM, MetricKind.RATE})

MetricKindType = enum_of(
    MetricKind,
    "How a metric's value follows from what it counts.",
    COUNT="How many events.",
    SUM="The sum of a value.",
    AVG="The mean of a value; null of nothing.",
    MIN="The least of a value; null of nothing.",
    MAX="The greatest of a value; null of nothing.",
    UNIQUE="How many different values: a sketch, within 1.6 % (one standard error), exact when few.",
    PERCENTILE="The values below which so many percent lie: a sketch, within 1.3 % of rank.",
    RATE="Events, or the sum of a value, in a unit of time.",
    RATIO="How large a part of the events, 0 to 1.",
    FORMULA="Computed from other metrics.",
)
IntervalType = enum_of(
    Interval,
    "Length of a bucket. Days, weeks and months begin at midnight of the question's time zone.",
    AUTO="What fits a chart of the range.",
    MINUTE="One minute.",
    FIVE_MINUTES="Five minutes.",
    HOUR="One hour.",
    DAY="A local day.",
    WEEK="A local week, from Monday.",
    MONTH="A local month.",
)
FilterOpType = enum_of(
    FilterOp,
    "How a dimension is compared.",
    name="FilterOp",
    EQ="Is the value.",
    NE="Is not the value.",
    IN="Is one of the values.",
    NOT_IN="Is none of the values.",
    CONTAINS="Has the value in it.",
    PREFIX="Begins with the value.",
    GT="Is greater; `status` only.",
    GTE="Is greater or the same; `status` only.",
    LT="Is less; `status` only.",
    LTE="Is less or the same; `status` only.",
)
ComparisonType = enum_of(
    Comparison,
    "An earlier time.",
    PREVIOUS_PERIOD="As long a time before: by the month or the day where the range is of whole ones.",
    PREVIOUS_YEAR="The same time a year before.",
)
AlignmentType = enum_of(
    Alignment,
    "What of an earlier time stands beside a day.",
    DATE="The same date, or day of the period.",
    WEEKDAY="The same day of the week: the time is moved by whole weeks, a year by 52.",
)
SourceType = enum_of(
    Source,
    "Where an answer was read.",
    ROLLUP_1M="Counts by the minute.",
    ROLLUP_5M="Counts by five minutes.",
    ROLLUP_1H="Counts by the hour.",
    RAW="The events themselves: slower, and kept for a shorter time.",
)


@strawberry.input(description='A span of time: {last: "24h"} (m, h, d, w), or {from, to} with `to` exclusive.')
class TimeRange:
    last: str | None = strawberry.field(
        default=None, description='A number and m, h, d or w, up to now, such as "24h".'
    )
    from_: datetime | None = strawberry.field(
        name="from", default=None, description='Its start, such as "2026-01-01T00:00:00Z".'
    )
    to: datetime | None = strawberry.field(
        default=None, description='Its end, exclusive, such as "2026-02-01T00:00:00Z".'
    )

    def to_domain(self) -> Range:
        return Range(self.last, self.from_, self.to)


@strawberry.input(description="A condition on one dimension; all of a question's conditions must hold.")
class Filter:
    dimension: str = strawberry.field(
        description="One of the metric's `dimensions`: type, page_path, referrer_host, country, device, browser, os, "
        "status or method; of the ingest metrics reason or key."
    )
    op: FilterOpType = strawberry.field(default=FilterOp.EQ, description="GT, GTE, LT, LTE compare `status` only.")  # type: ignore[valid-type]
    values: list[str] = strawberry.field(description="One value; 1 to 100 for IN and NOT_IN.")

    def to_domain(self) -> DimensionFilter:
        return DimensionFilter(self.dimension, self.op, tuple(self.values))


@strawberry.input(description="Which events count: of any of these types, and for which every condition holds.")
class EventSelection:
    types: list[str] | None = strawberry.field(
        default=None, description="1 to 100 types, 1 to 20 in a definition; of all when absent."
    )
    conditions: list[Filter] | None = strawberry.field(
        default=None,
        description="Up to 20. A `dimension` is here one of events, or a property by its path, such as "
        "properties.plan; GT, GTE, LT and LTE compare properties that are numbers too.",
    )

    def to_domain(self) -> EventFilter:
        types = None if self.types is None else tuple(self.types)
        return EventFilter(types, tuple(condition.to_domain() for condition in self.conditions or ()))


def narrowing_of(range: TimeRange | None, filters: list[Filter] | None) -> tuple[Range, tuple[DimensionFilter, ...]]:
    """A range and conditions as they were given; no range is the question's own."""
    return range.to_domain() if range is not None else Range(), tuple(f.to_domain() for f in filters or ())


@strawberry.input(description="What is counted where no metric is named: from raw events, by their dimensions.")
class AggregateInput:
    kind: MetricKindType = strawberry.field(description="How its value is made; not FORMULA.")  # type: ignore[valid-type]
    property: str | None = strawberry.field(
        default=None, description="What of the events is taken, as `MetricDefinitionInput.property` says."
    )
    filter: EventSelection | None = strawberry.field(default=None, description="Which events; all when absent.")
    matching: EventSelection | None = strawberry.field(
        default=None, description="Of a RATIO: which of these events are above the line."
    )
    rate_seconds: int | None = strawberry.field(default=None, description="Of a RATE: in how many seconds; 60.")

    def to_domain(self) -> AdHocAggregate:
        of = EventAggregate(
            filter=EventFilter() if self.filter is None else self.filter.to_domain(),
            property=self.property,
            matching=None if self.matching is None else self.matching.to_domain(),
            rate_seconds=EventAggregate().rate_seconds if self.rate_seconds is None else self.rate_seconds,
        )
        return AdHocAggregate(MetricKind(self.kind), of)


@remembered
@strawberry.input(description="A question about a metric over time: `metric`, several `metrics`, or an `aggregate`.")
class MetricQuery:
    metric: str | None = strawberry.field(
        default=None, description='A metric\'s key, such as "requests"; `Tenant.metrics` lists them.'
    )
    metrics: list[str] | None = strawberry.field(
        default=None, description="Or up to 10 keys: the lines of all, each with its key as the label `metric`."
    )
    aggregate: AggregateInput | None = strawberry.field(
        default=None, description="Or what to count, without defining a metric first."
    )
    range: TimeRange = strawberry.field(description="Widened to whole buckets; the answer says to what.")
    interval: IntervalType | None = strawberry.field(default=Interval.AUTO, description="Length of a bucket.")  # type: ignore[valid-type]
    timezone: str | None = strawberry.field(
        default="UTC", description='IANA name, such as "Europe/Berlin"; days begin at its midnight.'
    )
    filters: list[Filter] | None = strawberry.field(default=None, description="Conditions that must all hold.")
    group_by: list[str] | None = strawberry.field(
        default=None, description='Dimensions, such as ["country"]; one line for each value.'
    )
    limit: int | None = strawberry.field(
        default=DEFAULT_LIMIT, description="Groups kept, 1 to 100; the rest is `__other__`."
    )
    include_bots: bool | None = strawberry.field(default=False, description="Count events marked as bots as well.")
    percentiles: list[float] | None = strawberry.field(
        default_factory=lambda: list(DEFAULT_PERCENTILES),
        description="For percentile metrics, such as [50, 99]; 0 to 100 each.",
    )
    compare_to: ComparisonType | None = strawberry.field(  # type: ignore[valid-type]
        default=None, description="An earlier time to set it beside: `MetricSeries.comparison`."
    )
    alignment: AlignmentType | None = strawberry.field(  # type: ignore[valid-type]
        default=Alignment.DATE, description="What of the earlier time stands beside a day."
    )
    min_last_bucket: float | None = strawberry.field(
        default=0.0,
        description="Leave the last bucket out while less than this part of it, 0 to 1, has passed: one that has just "
        "begun looks like a fall.",
    )

    def to_domain(self) -> MetricQuestion:
        """The question as the engine takes it."""
        filters = tuple(f.to_domain() for f in self.filters or ())
        return MetricQuestion(
            metric=self.metric or "",
            metrics=tuple(self.metrics or ()),
            aggregate=None if self.aggregate is None else self.aggregate.to_domain(),
            last=self.range.last,
            from_=self.range.from_,
            to=self.range.to,
            interval=self.interval or Interval.AUTO,
            timezone=self.timezone or "UTC",
            filters=filters,
            group_by=tuple(self.group_by or ()),
            limit=DEFAULT_LIMIT if self.limit is None else self.limit,
            include_bots=bool(self.include_bots),
            percentiles=DEFAULT_PERCENTILES if self.percentiles is None else tuple(self.percentiles),
            compare_to=self.compare_to,
            alignment=self.alignment or Alignment.DATE,
            min_last_bucket=self.min_last_bucket or 0.0,
        )


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="One label of a series.")
class Label:
    name: str = strawberry.field(description="The dimension.")
    value: str = strawberry.field(description="Its value; `__other__` for all beyond the limit.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="One line of a chart.")
class Series:
    @strawberry.field(description="What the line stands for; empty where nothing is grouped.")
    def labels(self) -> list[Label]:
        found = cast(SeriesColumns, self).labels
        return [Label(name=name, value=value) for name, value in found.items()]

    values: list[float | None] = strawberry.field(description="One a timestamp; null is no value.")
    total: float | None = strawberry.field(description="The metric over the whole range.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="Something to know about an answer.")
class QueryWarning:
    code: str = strawberry.field(description="Stable, for programs.")
    message: str = strawberry.field(description="For people.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="How much was read of one store.")
class SourceRead:
    source: SourceType = strawberry.field(description="The store.")  # type: ignore[valid-type]
    rows: int = strawberry.field(description="Stored rows.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="A metric over time.")
class MetricSeries:
    @strawberry.field(description="Each bucket's start.")
    def timestamps(self) -> list[datetime]:
        return [datetime.fromtimestamp(ms / 1000, UTC) for ms in _columns(self).timestamps]

    @strawberry.field(description="The lines, typed; each point costs. `columns` is the fast way.")
    def series(self) -> list[Series]:
        return cast("list[Series]", _columns(self).series)

    columns_json: ColumnsJSON = strawberry.field(name="columns", description="The same as one JSON value.")
    interval: IntervalType = strawberry.field(description="The interval, AUTO resolved.")  # type: ignore[valid-type]
    from_: datetime = strawberry.field(name="from", description="The first bucket's start.")
    to: datetime = strawberry.field(description="The last bucket's end.")
    source: SourceType = strawberry.field(description="Where most of it was read.")  # type: ignore[valid-type]
    fresh_until: datetime = strawberry.field(description="Everything accepted before is counted.")
    is_complete: bool = strawberry.field(
        description="Whether all of the range is still kept, and no bucket can still grow but by late events."
    )
    incomplete_from: datetime | None = strawberry.field(
        description="Where the first bucket begins that can still grow; null where none can but by late events."
    )
    rows_read: int = strawberry.field(description="Stored rows that were read.")
    reads: list[SourceRead] = strawberry.field(description="The same by where they were read.")
    took_ms: float = strawberry.field(description="Milliseconds it took.")
    warnings: list[QueryWarning] = strawberry.field(description="What to know before trusting it.")
    comparison: MetricSeries | None = strawberry.field(
        description="The same of the time that `compareTo` names: the same lines, its buckets beside these in order."
    )


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="One row of a breakdown.")
class BreakdownRow:
    labels: list[Label] = strawberry.field(description="The group.")
    value: float | None = strawberry.field(description="The metric over the range.")
    share: float | None = strawberry.field(description="Part of the whole, 0 to 1, for counts, sums and rates.")
    previous: float | None = strawberry.field(description="The metric over the time that `compareTo` names.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="A metric by dimension, ranked; the last row may be `__other__`.")
class Breakdown:
    rows: list[BreakdownRow] = strawberry.field(description="Highest first.")
    total: float | None = strawberry.field(description="The metric over everything, where it adds up; else null.")
    from_: datetime = strawberry.field(name="from", description="Start of the range.")
    to: datetime = strawberry.field(description="End of the range, exclusive.")
    source: SourceType = strawberry.field(description="Where it was read.")  # type: ignore[valid-type]
    fresh_until: datetime = strawberry.field(description="Everything accepted before is counted.")
    took_ms: float = strawberry.field(description="Milliseconds it took.")
    warnings: list[QueryWarning] = strawberry.field(description="What to know before trusting it.")


async def resolve_series(info: Info[Context, None], query: MetricQuery) -> Any:
    """A metric over time."""
    return await answer_series(info.context, query.to_domain())


async def resolve_breakdown(info: Info[Context, None], query: MetricQuery) -> Any:
    """A metric by dimension."""
    return breakdown_of(await answer_series(info.context, replace(query.to_domain(), is_whole=True)))


def breakdown_of(answer: Answer) -> Breakdown:
    """Totals of an answer's lines as rows."""
    lines = answer.columns.series
    # Of several metrics, each has a whole of its own.
    adds_up = answer.definition.kind in ADDING and not any(METRIC_LABEL in line.labels for line in lines)
    whole = sum(line.total or 0 for line in lines) if adds_up else None
    earlier = answer.comparison.columns.series if answer.comparison is not None else []
    before = {tuple(line.labels.items()): line.total for line in earlier}
    rows = [
        BreakdownRow(
            labels=[Label(name=n, value=v) for n, v in series.labels.items()],
            value=series.total,
            share=(series.total or 0) / whole if whole else None,
            previous=before.get(tuple(series.labels.items())),
        )
        for series in lines
    ]
    return Breakdown(
        rows=rows, total=whole, from_=answer.from_, to=answer.to, source=answer.source,
        fresh_until=answer.fresh_until, took_ms=answer.took_ms,
        warnings=[QueryWarning(code=warning.code, message=warning.message) for warning in answer.warnings],
    )  # fmt: skip


def _columns(answer: object) -> Columns:
    return cast(Answer, answer).columns
