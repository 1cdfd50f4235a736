"""What a tenant's own metric counts, and the JSON in which it is stored. A version of it never changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from core.errors import BadInput
from core.filters import DimensionFilter, EventFilter, FilterOp
from core.formula import Expression

MAX_DIMENSIONS = 6
MAX_COMBINATIONS = 4
# Of one metric, dimension and hour; what comes after them counts as `OVERFLOW`.
MAX_VALUES_AN_HOUR = 1_000
OVERFLOW = "__other__"
# The shard of cells that the backfill writes: log partitions are numbered from 0.
BACKFILL_SHARD = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class EventAggregate:
    """What is taken of the events that pass `filter`.

    `property`: what SUM, AVG, MIN, MAX and PERCENTILE take the number of (`duration_ms`, `bytes`, `properties.amount`;
    an event without a number there adds none), and UNIQUE the text of (also `visitor`, `session`). `matching`: of a
    RATIO, the events above the line, out of those that pass `filter`. `rate_seconds`: of a RATE, events (or the sum of
    `property`) in so many seconds. `dimensions`: what it may be grouped by, each kept in rollups alone, and together
    as `combinations` say; dimensions of events, or properties.
    """

    filter: EventFilter = EventFilter()
    property: str | None = None
    matching: EventFilter | None = None
    rate_seconds: int = 60
    dimensions: tuple[str, ...] = ()
    combinations: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinedMetric:
    """The version of a tenant's own metric that is asked now. `id` is the version's and the key of its rollups;
    `aggregate` or `formula`. Its events count from `counts_from` on as they come: the tenant's metrics revision that an
    event was stamped with. Earlier ones are counted by a backfill; until it is done (`ready_at`) raw events answer."""

    id: UUID
    metric_id: UUID
    aggregate: EventAggregate | None = None
    formula: str | None = None
    counts_from: int = 0
    ready_at: datetime | None = None
    # Which part of the earlier events is counted, 0 to 1.
    backfilled: float = 0.0
    # Of a formula: its expression over metrics that are no formulas, and what they all may be grouped by; None when it
    # refers to what is there no more.
    expression: Expression | None = None
    common_dimensions: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether rollups have all of its events."""
        return self.formula is not None or self.ready_at is not None


class StoredFilter(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An event filter."""

    types: tuple[str, ...] | None = None
    conditions: tuple[tuple[str, FilterOp, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, filter: EventFilter) -> StoredFilter:
        return cls(filter.types, tuple((c.dimension, c.op, c.values) for c in filter.conditions))

    def to_domain(self) -> EventFilter:
        return EventFilter(self.types, tuple(DimensionFilter(*condition) for condition in self.conditions))


class StoredDefinition(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A version's definition. A field that is added later has a default."""

    filter: StoredFilter = msgspec.field(default_factory=StoredFilter)
    property: str | None = None
    matching: StoredFilter | None = None
    rate_seconds: int = 60
    dimensions: tuple[str, ...] = ()
    combinations: tuple[tuple[str, ...], ...] = ()
    formula: str | None = None


def write_definition(aggregate: EventAggregate | None, formula: str | None) -> str:
    """A definition as JSON."""
    if aggregate is None:
        return msgspec.json.encode(StoredDefinition(formula=formula)).decode()
    matching = None if aggregate.matching is None else StoredFilter.of(aggregate.matching)
    stored = StoredDefinition(
        StoredFilter.of(aggregate.filter), aggregate.property, matching, aggregate.rate_seconds,
        aggregate.dimensions, aggregate.combinations,
    )  # fmt: skip
    return msgspec.json.encode(stored).decode()


def read_definition(text: str) -> tuple[EventAggregate | None, str | None]:
    """The aggregate or the formula that was stored.

    Raises:
        BadInput: it was stored in a form that is no longer read.
    """
    try:
        stored = msgspec.json.decode(text, type=StoredDefinition)
    except msgspec.DecodeError as error:
        raise BadInput(f"What is stored is no metric of this version: {error}", code="metric_no_longer_fits") from None
    if stored.formula is not None:
        return None, stored.formula
    aggregate = EventAggregate(
        filter=stored.filter.to_domain(),
        property=stored.property,
        matching=None if stored.matching is None else stored.matching.to_domain(),
        rate_seconds=stored.rate_seconds,
        dimensions=stored.dimensions,
        combinations=stored.combinations,
    )
    return aggregate, None
