"""The parts of a metric while they are merged: over buckets for a total, over groups for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from core.metrics import MetricDefinition, MetricKind
from core.sketches import Quantiles, union_of

Number = int | float | None
# `bytes` is a field below, so the type needs another name.
Sketch = bytes


@dataclass(slots=True)
class Parts:
    """Counts, and what one of uniques or percentiles needs: sketches from rollups, exact values from raw events."""

    count: int = 0
    errors: int = 0
    bytes: int = 0
    sketches: list[Sketch] = field(default_factory=list)
    exact: list[Sequence[float]] = field(default_factory=list)

    @classmethod
    def of_rollup(cls, count: int, errors: int, sent: int, sketches: Sequence[Sketch] | None) -> Parts:
        return cls(count, errors, sent, list(sketches or ()))

    @classmethod
    def of_raw(cls, count: int, errors: int, sent: int, values: Sequence[float] | None) -> Parts:
        return cls(count, errors, sent, exact=[values] if values else [])

    def merge(self, other: Parts) -> None:
        self.count += other.count
        self.errors += other.errors
        self.bytes += other.bytes
        self.sketches += other.sketches
        self.exact += other.exact

    def value(self, definition: MetricDefinition, percentile: float | None = None) -> Number:
        """The metric's number; None is "no value", a count or sum of nothing is 0."""
        match definition.kind:
            case MetricKind.COUNT:
                return self.count
            case MetricKind.SUM:
                return self.bytes
            case MetricKind.RATIO:
                return self.errors / self.count if self.count else None
            case MetricKind.UNIQUE:
                return self._uniques()
            case MetricKind.PERCENTILE:
                return self._quantile((percentile or 50.0) / 100)
            case _:
                raise ValueError(f"no built-in metric is of kind {definition.kind}")

    def _uniques(self) -> int:
        if self.exact:
            return len({value for values in self.exact for value in values})
        return round(union_of(self.sketches).estimate()) if self.sketches else 0

    def _quantile(self, rank: float) -> float | None:
        if self.exact:
            values = np.concatenate([np.asarray(part, dtype=np.float64) for part in self.exact])
            return float(np.quantile(values, rank, method="inverted_cdf"))
        merged = Quantiles()
        for sketch in self.sketches:
            merged.merge(Quantiles.from_bytes(sketch))
        return merged.quantile(rank)


@dataclass(frozen=True, slots=True)
class PartsRow:
    """One row of a source; `rows` are how many stored rows it was made of."""

    slot: int
    labels: tuple[str, ...]
    parts: Parts
    rows: int
