"""An ad-hoc aggregate as it is saved: the JSON that the API's input `AggregateInput` takes."""

from __future__ import annotations

import msgspec

from core.filters import DimensionFilter, EventFilter, FilterOp
from core.metric_definitions import EventAggregate
from core.metrics import MetricKind
from query.question import AdHocAggregate


class SavedFilter(msgspec.Struct, forbid_unknown_fields=True):
    """One condition."""

    dimension: str
    op: FilterOp
    values: tuple[str, ...]

    def to_domain(self) -> DimensionFilter:
        return DimensionFilter(self.dimension, self.op, self.values)


class SavedSelection(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which events."""

    types: tuple[str, ...] | None = None
    conditions: tuple[SavedFilter, ...] = ()

    @classmethod
    def of(cls, filter: EventFilter) -> SavedSelection:
        return cls(filter.types, saved_filters(filter.conditions))

    def to_domain(self) -> EventFilter:
        return EventFilter(self.types, tuple(condition.to_domain() for condition in self.conditions))


class SavedAggregate(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """The whole."""

    kind: MetricKind
    filter: SavedSelection = msgspec.field(default_factory=SavedSelection)
    property: str | None = None
    matching: SavedSelection | None = None
    rate_seconds: int = 60

    @classmethod
    def of(cls, asked: AdHocAggregate) -> SavedAggregate:
        of = asked.of
        matching = None if of.matching is None else SavedSelection.of(of.matching)
        return cls(asked.kind, SavedSelection.of(of.filter), of.property, matching, of.rate_seconds)

    def to_domain(self) -> AdHocAggregate:
        of = EventAggregate(
            filter=self.filter.to_domain(),
            property=self.property,
            matching=None if self.matching is None else self.matching.to_domain(),
            rate_seconds=self.rate_seconds,
        )
        return AdHocAggregate(self.kind, of)


def saved_filters(filters: tuple[DimensionFilter, ...]) -> tuple[SavedFilter, ...]:
    return tuple(SavedFilter(f.dimension, f.op, f.values) for f in filters)
