"""From amounts to columns: groups ranked, the rest as `__other__`, gaps filled, totals from the merged parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from core.metric_definitions import OVERFLOW
from core.metrics import MetricDefinition
from query.calendar import Buckets
from query.measures import Measure
from query.parts import Number
from query.planner import Source
from query.question import Interval, MetricQuestion
from query.source import SourceRead

# What had no room in its hour, and what is beyond the limit, are one line.
OTHER = OVERFLOW
PERCENTILE_LABEL = "percentile"
METRIC_LABEL = "metric"


class Series(msgspec.Struct, frozen=True):
    """One line of a chart; `values` has one number or None for each timestamp."""

    labels: dict[str, str]
    values: list[Number]
    total: Number


class Columns(msgspec.Struct, frozen=True):
    """The wire form: `timestamps` are each bucket's start in epoch milliseconds."""

    timestamps: list[int]
    series: list[Series]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Columns and what they are as JSON, so that those that are kept are encoded once."""

    columns: Columns
    json: bytes


@dataclass(frozen=True, slots=True)
class QueryWarning:
    """Something to know about an answer."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, and where it came from. `source` is where most of it was read, `reads` all of it. `comparison` is the
    same question about an earlier time: its lines are those of this answer, and what else there was then `__other__`;
    its buckets stand beside these in order."""

    definition: MetricDefinition
    columns: Columns
    interval: Interval
    from_: datetime
    to: datetime
    source: Source
    fresh_until: datetime
    is_complete: bool
    rows_read: int
    took_ms: float
    warnings: tuple[QueryWarning, ...] = ()
    reads: tuple[SourceRead, ...] = ()
    comparison: Answer | None = None
    encoded: Encoded | None = None

    @property
    def columns_json(self) -> Columns | msgspec.Raw:
        """The columns for who sends them."""
        known = self.encoded
        # An answer that was made of another has other columns.
        return msgspec.Raw(known.json) if known is not None and known.columns is self.columns else self.columns

    @property
    def incomplete_from(self) -> datetime | None:
        """Where the first bucket begins that can still grow otherwise than by late events; None: there is none."""
        starts = self.columns.timestamps
        ends = [*starts[1:], int(self.to.timestamp() * 1000)]
        fresh = self.fresh_until.timestamp() * 1000
        return next((moment(start // 1000) for start, end in zip(starts, ends, strict=True) if end > fresh), None)


Labels = tuple[str, ...]
Slots = dict[int, Any]


@dataclass(slots=True)
class Groups:
    """Amounts by group and bucket; `overflow` are those of values that had no room in their hour."""

    by_labels: dict[Labels, Slots] = field(default_factory=dict)
    overflow: Slots = field(default_factory=dict)


def columns_of(question: MetricQuestion, buckets: Buckets, measure: Measure, groups: Groups) -> Columns:
    """The columns of what was read."""
    lines = _Lines(question, buckets, measure)
    totals = {labels: measure.merged(slots.values()) for labels, slots in groups.by_labels.items()}
    kept = _kept(question, lines, totals)
    # Of ranks, nothing is shown.
    measure.zeros = 0
    for labels in kept:
        named = dict(zip(question.group_by, labels, strict=True))
        lines.add(named, groups.by_labels.get(labels, {}), totals.get(labels) or measure.merged(()))
    alone = set(kept)
    rest = [slots for labels, slots in groups.by_labels.items() if labels not in alone]
    if rest or groups.overflow or _others(question) in (question.groups or ()):
        slots = _merged_slots(measure, [*rest, groups.overflow])
        lines.add(dict(zip(question.group_by, _others(question), strict=True)), slots, measure.merged(slots.values()))
    return Columns([start * 1000 for start in buckets.starts], lines.series)


def _kept(question: MetricQuestion, lines: _Lines, totals: Mapping[Labels, Any]) -> Sequence[Labels]:
    """The groups that are lines of their own, in order."""
    if not question.group_by:
        return [()]
    if question.groups is not None:
        return [labels for labels in question.groups if labels != _others(question)]
    ranks = {labels: lines.rank(total) for labels, total in totals.items()}
    return sorted(ranks, key=lambda labels: (-ranks[labels], labels))[: question.limit]


def _others(question: MetricQuestion) -> Labels:
    """The labels of all groups that are no lines of their own."""
    return (OTHER,) * len(question.group_by)


class _Lines:
    """The lines of an answer while they are put together."""

    def __init__(self, question: MetricQuestion, buckets: Buckets, measure: Measure) -> None:
        edges = buckets.edges
        self._lengths = [end - start for start, end in zip(edges, edges[1:], strict=False)]
        self._whole = edges[-1] - edges[0]
        self._measure = measure
        self.series: list[Series] = []

    def rank(self, total: Any) -> float:
        return self._measure.value(total, self._measure.percentiles[0], self._whole) or 0

    def add(self, labels: dict[str, str], slots: Slots, total: Any) -> None:
        nothing = self._measure.merged(())
        for percentile in self._measure.percentiles:
            named = labels if percentile is None else {**labels, PERCENTILE_LABEL: f"{percentile:g}"}
            values = [
                self._measure.value(slots.get(n, nothing), percentile, length) for n, length in enumerate(self._lengths)
            ]
            self.series.append(Series(named, values, self._measure.value(total, percentile, self._whole)))


def _merged_slots(measure: Measure, many: Sequence[Slots]) -> Slots:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for slots in many:
        for slot, amount in slots.items():
            found[slot].append(amount)
    return {slot: measure.merged(amounts) for slot, amounts in found.items()}


def take(columns: Columns, positions: Sequence[int]) -> Columns:
    """The columns at these positions."""
    return Columns(
        [columns.timestamps[n] for n in positions],
        [Series(s.labels, [s.values[n] for n in positions], s.total) for s in columns.series],
    )


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
