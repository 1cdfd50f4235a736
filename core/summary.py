"""A summary of events: the parts from which every built-in metric is computed. Summaries merge in any order.

This is the one definition of a bucket's value: the aggregate worker folds events into it, rollups store it, and the
query engine merges it again over buckets, groups and writers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from core.sketches import Quantiles, Uniques

# `bytes` is a field below, so the type needs another name.
Sketch = bytes


# What a bigint holds: a sum that would pass it stays there.
MAX_SUM = 2**63 - 1


class SummaryRow(msgspec.Struct, frozen=True, array_like=True):
    """A summary as it is stored and sent: counts, and sketches as bytes (b'' when empty)."""

    count: int
    errors: int
    bytes: int
    duration_count: int
    duration_sum: float
    duration_min: float | None
    duration_max: float | None
    visitors: Sketch
    sessions: Sketch
    durations: Sketch


@dataclass(slots=True)
class Summary:
    """An accumulator: `errors` counts status >= 500, durations are in milliseconds."""

    count: int = 0
    errors: int = 0
    bytes: int = 0
    duration_count: int = 0
    duration_sum: float = 0.0
    duration_min: float | None = None
    duration_max: float | None = None
    visitors: Uniques = field(default_factory=Uniques)
    sessions: Uniques = field(default_factory=Uniques)
    durations: Quantiles = field(default_factory=Quantiles)

    @classmethod
    def from_row(cls, row: SummaryRow) -> Summary:
        return cls(
            row.count,
            row.errors,
            row.bytes,
            row.duration_count,
            row.duration_sum,
            row.duration_min,
            row.duration_max,
            Uniques.from_bytes(row.visitors),
            Uniques.from_bytes(row.sessions),
            Quantiles.from_bytes(row.durations),
        )

    def merge(self, other: Summary) -> None:
        """Adds another summary to this one."""
        self.count += other.count
        self.errors += other.errors
        self.bytes = min(self.bytes + other.bytes, MAX_SUM)
        self.duration_count += other.duration_count
        self.duration_sum += other.duration_sum
        self.duration_min = _least(self.duration_min, other.duration_min)
        self.duration_max = _most(self.duration_max, other.duration_max)
        self.visitors.merge(other.visitors)
        self.sessions.merge(other.sessions)
        self.durations.merge(other.durations)

    def to_row(self) -> SummaryRow:
        return SummaryRow(*self.columns())

    def columns(self) -> tuple[int, int, int, int, float, float | None, float | None, Sketch, Sketch, Sketch]:
        """The values of a `SummaryRow`, in its order."""
        return (
            self.count,
            self.errors,
            self.bytes,
            self.duration_count,
            self.duration_sum,
            self.duration_min,
            self.duration_max,
            self.visitors.to_bytes(),
            self.sessions.to_bytes(),
            self.durations.to_bytes(),
        )


def merge_rows(rows: list[SummaryRow]) -> SummaryRow:
    """The summary of several; one alone stays as it is."""
    if len(rows) == 1:
        return rows[0]
    total = Summary.from_row(rows[0])
    for row in rows[1:]:
        total.merge(Summary.from_row(row))
    return total.to_row()


def _least(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else min(a, b)


def _most(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else max(a, b)
