"""The parts of a metric while they are merged: over stores, over buckets for a total, over groups for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from core.metric_cells import EXACT, unique_hash
from core.metrics import MetricDefinition, MetricKind
from core.sketches import Quantiles, Uniques, union_of

Number = int | float | None
ZERO = Decimal(0)


@dataclass(slots=True)
class Parts:
    """Counts, an exact sum, and what uniques or percentiles need: sketches from rollups, the values themselves from
    raw events (numbers; of uniques, hashes or texts). `matched` are the events above a ratio's line, and of metrics of
    numbers those that had one."""

    count: int = 0
    matched: int = 0
    sum: Decimal = ZERO
    least: float | None = None
    most: float | None = None
    sketches: list[bytes] = field(default_factory=list)
    exact: list[Sequence[Any]] = field(default_factory=list)

    def merge(self, other: Parts) -> None:
        self.count += other.count
        self.matched += other.matched
        self.sum = EXACT.add(self.sum, other.sum)
        self.least = _chosen(min, self.least, other.least)
        self.most = _chosen(max, self.most, other.most)
        self.sketches += other.sketches
        self.exact += other.exact

    def value(self, definition: MetricDefinition, percentile: float | None, seconds: int) -> Number:
        """The metric's number over so many seconds; None is "no value", a count or sum of nothing is 0."""
        match definition.kind:
            case MetricKind.COUNT:
                return self.count
            case MetricKind.SUM:
                return plain(self.sum)
            case MetricKind.AVG:
                return plain(EXACT.divide(self.sum, Decimal(self.matched))) if self.matched else None
            case MetricKind.MIN:
                return self.least
            case MetricKind.MAX:
                return self.most
            case MetricKind.RATE:
                return self._rate(definition, seconds)
            case MetricKind.RATIO:
                return self.matched / self.count if self.count else None
            case MetricKind.UNIQUE:
                return self._uniques()
            case MetricKind.PERCENTILE:
                return self._quantile((50.0 if percentile is None else percentile) / 100)
            case MetricKind.FORMULA:
                raise ValueError("a formula has no parts of its own")

    def _rate(self, definition: MetricDefinition, seconds: int) -> Number:
        aggregate = definition.defined.aggregate if definition.defined is not None else None
        if aggregate is None or not seconds:
            return None
        amount = Decimal(self.count) if aggregate.property is None else self.sum
        return plain(EXACT.divide(EXACT.multiply(amount, Decimal(aggregate.rate_seconds)), Decimal(seconds)))

    def _uniques(self) -> int:
        values = {value for part in self.exact for value in part}
        if not self.sketches:
            return len(values)
        merged = union_of(self.sketches)
        if values:
            exact = Uniques()
            exact.update_many(unique_hash(value) if isinstance(value, str) else value for value in values)
            merged.merge(exact)
        return round(merged.estimate())

    def _quantile(self, rank: float) -> float | None:
        values = [np.asarray(part, dtype=np.float64) for part in self.exact]
        if not self.sketches:
            return float(np.quantile(np.concatenate(values), rank, method="inverted_cdf")) if values else None
        merged = Quantiles()
        for sketch in self.sketches:
            merged.merge(Quantiles.from_bytes(sketch))
        for some in values:
            merged.update_many(some.tolist())
        return merged.quantile(rank)


@dataclass(frozen=True, slots=True)
class PartsRow:
    """One row of a store; `rows` are how many stored rows it was made of; `is_overflow`: of values that had no room in
    their hour, whatever they were."""

    slot: int
    labels: tuple[str, ...]
    parts: Parts
    rows: int
    is_overflow: bool = False


def plain(number: Decimal) -> int | float:
    """A decimal as the API gives numbers: exact where it is whole."""
    return int(number) if number == number.to_integral_value() else float(number)


def _chosen(choose: Any, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    found: float = choose(one, other)
    return found
