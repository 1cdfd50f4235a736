"""What a cell of a tenant's own metric holds, and how values of events become it. Cells merge in any order, exactly but
for the sketches.

This is the one definition of such a bucket's value: workers fold events into it, `metric_*` store it, and the query
engine merges it again over buckets, groups and writers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from core.sketches import Quantiles, Uniques

# A number beyond so many digits before the point is none; of those after it so many count.
MAX_NUMBER = Decimal(10) ** 15
_LAST_DIGIT = Decimal("1e-9")
# Enough for the sum of 10^36 such numbers: nothing is ever rounded away.
EXACT = Context(prec=60, rounding=ROUND_HALF_UP)
ZERO = Decimal(0)
# What of a property's text tells values of a dimension apart.
MAX_DIMENSION_LENGTH = 200
# What a key of `metric_*` has room for, in bytes of a dimension's name and its value.
MAX_CELL_BYTES = 2_300
HASHES_KEPT = 50_000


@dataclass(slots=True)
class MetricSummary:
    """An accumulator. `matched` are the events above a RATIO's line, and of metrics of numbers those that had one;
    `sum`, `min` and `max` are of these."""

    count: int = 0
    matched: int = 0
    sum: Decimal = ZERO
    min: float | None = None
    max: float | None = None
    uniques: Uniques = field(default_factory=Uniques)
    quantiles: Quantiles = field(default_factory=Quantiles)

    @classmethod
    def from_row(cls, row: Any) -> MetricSummary:
        """A summary of a row that has columns of these names."""
        return cls(
            row["count"], row["matched"], row["sum"], row["min"], row["max"],
            Uniques.from_bytes(row["uniques"]), Quantiles.from_bytes(row["quantiles"]),
        )  # fmt: skip

    def add(
        self, count: int, matched: int, sum: Decimal = ZERO, least: float | None = None, most: float | None = None
    ) -> None:
        """Adds what is no sketch."""
        self.count += count
        self.matched += matched
        self.sum = EXACT.add(self.sum, sum)
        if least is not None:
            self.min = least if self.min is None else min(self.min, least)
        if most is not None:
            self.max = most if self.max is None else max(self.max, most)

    def merge(self, other: MetricSummary) -> None:
        """Adds another summary to this one."""
        self.add(other.count, other.matched, other.sum, other.min, other.max)
        self.uniques.merge(other.uniques)
        self.quantiles.merge(other.quantiles)

    def columns(self) -> tuple[int, int, Decimal, float | None, float | None, bytes, bytes]:
        """The values of a row, in the order of the fields."""
        return (
            self.count, self.matched, self.sum, self.min, self.max, self.uniques.to_bytes(), self.quantiles.to_bytes(),
        )  # fmt: skip


def counted_number(number: Decimal) -> Decimal | None:
    """A number as it counts: up to 15 digits before the point, and 9 after it; None beyond that. As SQL:
    `CASE WHEN abs(n) < 1e15 THEN round(n, 9) END`."""
    if not abs(number) < MAX_NUMBER:
        return None
    return number if number.as_tuple().exponent >= -9 else EXACT.quantize(number, _LAST_DIGIT)  # type: ignore[operator]


@lru_cache(maxsize=HASHES_KEPT)
def unique_hash(text: str) -> int:
    """The signed 64-bit hash by which UNIQUE tells texts apart; visitors and sessions are hashes already."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=b"cm.unique").digest()
    return int.from_bytes(digest, "big", signed=True)


def combination_name(dimensions: Sequence[str]) -> str:
    """What `dimension` is of the cells of several dimensions together."""
    return ",".join(dimensions)


def combined(values: Sequence[str]) -> str:
    """What `value` is of such a cell."""
    return msgspec.json.encode(values).decode()
