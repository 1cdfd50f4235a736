"""From parts to columns: groups ranked, the rest as `__other__`, gaps filled, totals from the merged parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from core.metrics import MetricDefinition, MetricKind
from query.parts import Number, Parts, PartsRow
from query.planner import Plan, Source
from query.question import Interval

OTHER = "__other__"
PERCENTILE_LABEL = "percentile"


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
class QueryWarning:
    """Something to know about an answer."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, and where it came from."""

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


Labels = tuple[str, ...]


def columns_of(plan: Plan, rows: Sequence[PartsRow]) -> Columns:
    """The columns of a plan's rows."""
    by_group: defaultdict[Labels, dict[int, Parts]] = defaultdict(dict)
    for row in rows:
        if 0 <= row.slot < len(plan.buckets.starts):
            by_group[row.labels].setdefault(row.slot, Parts()).merge(row.parts)
    if not plan.question.group_by:
        by_group.setdefault((), {})
    groups = [(labels, slots, _merged(slots.values())) for labels, slots in by_group.items()]
    ranked = sorted(groups, key=lambda group: (-_rank(plan, group[2]), group[0]))
    kept, rest = ranked[: plan.question.limit], ranked[plan.question.limit :]
    series = [s for labels, slots, total in kept for s in _series(plan, _named(plan, labels), slots, total)]
    if rest:
        slots = _merge_slots([slots for _, slots, _ in rest])
        labels = dict.fromkeys(plan.question.group_by, OTHER)
        series += _series(plan, labels, slots, _merged(slots.values()))
    return Columns([start * 1000 for start in plan.buckets.starts], series)


def warnings_of(plan: Plan) -> tuple[QueryWarning, ...]:
    """What of the range is no longer there to be read."""
    if plan.missing_before is None:
        return ()
    what = "raw events are" if plan.resolution is None else f"{plan.source.value} is"
    return (
        QueryWarning(
            "beyond_retention",
            f"What is before {plan.missing_before:%Y-%m-%dT%H:%M:%SZ} is past its time and dropped: {what} kept since "
            "then. A longer interval may still have it, and so has a higher tier.",
        ),
    )


def changed_columns(before: Columns, after: Columns) -> Columns:
    """Only the buckets of `after` that differ from `before`, for every series of `after`; empty when none does."""
    old_at = {stamp: n for n, stamp in enumerate(before.timestamps)}
    old = {_identity(series): series for series in before.series}
    changed = [
        n
        for n, stamp in enumerate(after.timestamps)
        if stamp not in old_at
        or any(_differs(old.get(_identity(s)), old_at[stamp], s.values[n]) for s in after.series)
        or old.keys() - {_identity(s) for s in after.series}
    ]
    return take(after, changed)


def take(columns: Columns, positions: Sequence[int]) -> Columns:
    """The columns at these positions."""
    return Columns(
        [columns.timestamps[n] for n in positions],
        [Series(s.labels, [s.values[n] for n in positions], s.total) for s in columns.series],
    )


def _differs(old: Series | None, position: int, value: Number) -> bool:
    return old is None or old.values[position] != value


def _identity(series: Series) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(series.labels.items()))


def _named(plan: Plan, labels: Labels) -> dict[str, str]:
    return dict(zip(plan.question.group_by, labels, strict=True))


def _merged(parts: object) -> Parts:
    total = Parts()
    for part in parts:  # type: ignore[attr-defined]
        total.merge(part)
    return total


def _merge_slots(many: Sequence[dict[int, Parts]]) -> dict[int, Parts]:
    merged: defaultdict[int, Parts] = defaultdict(Parts)
    for slots in many:
        for slot, parts in slots.items():
            merged[slot].merge(parts)
    return dict(merged)


def _rank(plan: Plan, total: Parts) -> float:
    percentiles = plan.question.percentiles
    return total.value(plan.definition, percentiles[0] if percentiles else None) or 0


def _series(plan: Plan, labels: dict[str, str], slots: dict[int, Parts], total: Parts) -> list[Series]:
    if plan.definition.kind is not MetricKind.PERCENTILE:
        return [_one_series(plan, labels, slots, total, None)]
    return [
        _one_series(plan, {**labels, PERCENTILE_LABEL: f"{percentile:g}"}, slots, total, percentile)
        for percentile in plan.question.percentiles
    ]


def _one_series(
    plan: Plan, labels: dict[str, str], slots: dict[int, Parts], total: Parts, percentile: float | None
) -> Series:
    nothing = Parts().value(plan.definition, percentile)
    values = [
        slots[n].value(plan.definition, percentile) if n in slots else nothing for n in range(len(plan.buckets.starts))
    ]
    return Series(labels, values, total.value(plan.definition, percentile))


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
