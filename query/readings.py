"""What was read, as amounts by group and bucket; and what is to be known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.metric_definitions import MAX_VALUES_AN_HOUR
from core.metrics import MetricDefinition
from query.answer import Groups, QueryWarning, Slots
from query.definitions import NO_VERSION
from query.parts import Parts, PartsRow
from query.planner import Plan, Source
from query.source import SourceRead


@dataclass(frozen=True, slots=True)
class Reading:
    """A plan, what its stores gave, and how much that was."""

    plan: Plan
    rows: list[PartsRow]
    reads: list[SourceRead]

    @property
    def warnings(self) -> list[QueryWarning]:
        return [*_retention(self.plan), *_backfill(self.plan.definition), *_overflow(self)]


def groups_of(reading: Reading) -> Groups:
    """The parts of one metric."""
    groups = Groups()
    for row in _counted(reading):
        slots = _slots(groups, row)
        known = slots.get(row.slot)
        if known is None:
            slots[row.slot] = row.parts
        else:
            known.merge(row.parts)
    return groups


def groups_of_many(readings: Mapping[str, Reading]) -> Groups:
    """The parts of several metrics, by key, where group and bucket are the same."""
    groups = Groups()
    for key, reading in readings.items():
        for row in _counted(reading):
            amounts: dict[str, Parts] = _slots(groups, row).setdefault(row.slot, {})
            amounts.setdefault(key, Parts()).merge(row.parts)
    return groups


def _slots(groups: Groups, row: PartsRow) -> Slots:
    found: dict[int, Any] = groups.overflow if row.is_overflow else groups.by_labels.setdefault(row.labels, {})
    return found


def _counted(reading: Reading) -> list[PartsRow]:
    count = len(reading.plan.buckets.starts)
    # Whether what had no room would pass a filter is not known.
    leaves_overflow = reading.plan.is_filtered
    return [
        row for row in reading.rows if 0 <= row.slot < count and not (row.is_overflow and leaves_overflow)
    ]  # fmt: skip


def _retention(plan: Plan) -> list[QueryWarning]:
    if plan.missing_before is None:
        return []
    what = "raw events are" if plan.source is Source.RAW else f"{plan.source.value} is"
    return [
        QueryWarning(
            "beyond_retention",
            f"What is before {plan.missing_before:%Y-%m-%dT%H:%M:%SZ} is past its time and dropped: {what} kept since "
            "then. A longer interval may still have it, and so has a higher tier.",
        )
    ]


def _backfill(definition: MetricDefinition) -> list[QueryWarning]:
    own = definition.defined
    if own is None or own.aggregate is None or own.ready_at is not None or own.id == NO_VERSION:
        return []
    return [
        QueryWarning(
            "backfilling",
            f"{definition.key} is new: {own.backfilled:.0%} of its earlier events are counted. Until all are, it is "
            "read from raw events, which is exact and slower.",
        )
    ]


def _overflow(reading: Reading) -> list[QueryWarning]:
    count = sum(row.parts.count for row in reading.rows if row.is_overflow)
    if not count:
        return []
    names = ", ".join(reading.plan.parts_of_dimension)
    told = "left out, since nobody knows whether they pass the filter" if reading.plan.is_filtered else "in __other__"
    return [
        QueryWarning(
            "cardinality_capped",
            f"{names} had more than {MAX_VALUES_AN_HOUR} values in an hour: the {count} events beyond them are {told}. "
            "The metric's total has them.",
        )
    ]
