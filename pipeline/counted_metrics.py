"""The versions of tenants' own metrics that workers count, made ready to look at events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from core.database import Session
from core.errors import BadInput
from core.filters import property_path
from core.metric_cells import (
    MAX_CELL_BYTES,
    MAX_DIMENSION_LENGTH,
    combination_name,
    combined,
    counted_number,
    unique_hash,
)
from core.metric_definitions import OVERFLOW, EventAggregate, read_definition
from core.metrics import MetricKind
from core.queries import named
from core.rollups import TOTAL
from pipeline.matching import NumberOf, Seen, Test, TextOf, matcher, number_of, text_of

LIST_COUNTED = named("metric_cells", "list_counted")
# Those whose value is a number's.
OF_NUMBERS = frozenset({MetricKind.SUM, MetricKind.AVG, MetricKind.MIN, MetricKind.MAX, MetricKind.PERCENTILE})

# A dimension, or several, and the value that an event has there.
Cell = tuple[str, str]


@dataclass(frozen=True, slots=True)
class CountedVersion:
    """One version. `number`, `hash` and `matching` are those that its kind has."""

    id: UUID
    key: str
    types: frozenset[str] | None
    passes: Test
    matching: Test | None
    number: NumberOf | None
    hash: Callable[[Seen], int | None] | None
    has_quantiles: bool
    dimensions: tuple[tuple[str, TextOf], ...]
    combinations: tuple[tuple[str, tuple[TextOf, ...]], ...]

    def counted_number(self, seen: Seen) -> Decimal | None:
        found = None if self.number is None else self.number(seen)
        return None if found is None else counted_number(found)

    def cells(self, seen: Seen) -> list[Cell]:
        """The cells that an event counts in: the total, each dimension alone, and each combination."""
        cells = [(TOTAL, "")]
        cells += [(name, text(seen)) for name, text in self.dimensions]
        for name, texts in self.combinations:
            value = combined([text(seen) for text in texts])
            fits = len(name.encode()) + len(value.encode("utf-8", "surrogatepass")) <= MAX_CELL_BYTES
            cells.append((name, value if fits else OVERFLOW))
        return cells


@dataclass(frozen=True, slots=True)
class CountedMetrics:
    """What is counted of a tenant's events that bear a metrics revision."""

    revision: int = 0
    versions: tuple[CountedVersion, ...] = ()


NONE = CountedMetrics()
Known = Mapping[UUID, CountedMetrics]


async def load_counted(session: Session, revisions: Mapping[UUID, int]) -> dict[UUID, CountedMetrics]:
    """What is counted of tenants at these revisions of theirs, which the caller holds."""
    rows = await session.fetch(LIST_COUNTED, list(revisions), list(revisions.values()))
    found: dict[UUID, list[CountedVersion]] = {tenant_id: [] for tenant_id in revisions}
    for row in rows:
        found[row["tenant_id"]] += counted_versions(row)
    return {tenant: CountedMetrics(revisions[tenant], tuple(versions)) for tenant, versions in found.items()}


def counted_versions(row: Any) -> Iterable[CountedVersion]:
    """The version of a row, if it is one that is counted: a formula is not, nor what is no longer read."""
    try:
        aggregate, _ = read_definition(row["definition"])
    except BadInput:
        return []
    if aggregate is None:
        return []
    return [counted_version(UUID(int=row["id"].int), row["key"], MetricKind(row["kind"]), aggregate)]


def counted_version(id: UUID, key: str, kind: MetricKind, aggregate: EventAggregate) -> CountedVersion:
    """A definition made ready."""
    name = aggregate.property
    has_number = name is not None and (kind in OF_NUMBERS or kind is MetricKind.RATE)
    return CountedVersion(
        id,
        key,
        None if aggregate.filter.types is None else frozenset(aggregate.filter.types),
        matcher(aggregate.filter),
        matcher(aggregate.matching) if kind is MetricKind.RATIO and aggregate.matching is not None else None,
        number_of(name) if name is not None and has_number else None,
        hash_of(name) if name is not None and kind is MetricKind.UNIQUE else None,
        kind is MetricKind.PERCENTILE,
        tuple((dimension, dimension_of(dimension)) for dimension in aggregate.dimensions),
        tuple((combination_name(names), tuple(map(dimension_of, names))) for names in aggregate.combinations),
    )


def dimension_of(name: str) -> TextOf:
    """What tells events apart by a dimension; a property's text counts as far as its first characters."""
    text = text_of(name)
    return text if property_path(name) is None else lambda seen: text(seen)[:MAX_DIMENSION_LENGTH]


def hash_of(name: str) -> Callable[[Seen], int | None]:
    """What UNIQUE tells apart; None where there is nothing."""
    if name == "visitor":
        return lambda seen: seen.event.visitor
    if name == "session":
        return lambda seen: seen.event.session
    text = text_of(name)
    return lambda seen: unique_hash(found) if (found := text(seen)) else None


def by_type(versions: Sequence[CountedVersion]) -> Callable[[str], list[CountedVersion]]:
    """Those versions that may count an event of a type."""
    known: dict[str, list[CountedVersion]] = {}

    def of(type_: str) -> list[CountedVersion]:
        if type_ not in known:
            known[type_] = [version for version in versions if version.types is None or type_ in version.types]
        return known[type_]

    return of
