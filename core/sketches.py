"""Mergeable sketches over `datasketches` (Apache): HyperLogLog for uniques, KLL for percentiles.

Merging is what lets an hour be made of minutes; the errors are stated, and tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import datasketches
import numpy as np

LG_K = 12
# Relative standard error of a merged HLL with 2^12 registers: 1.04 / sqrt(4096) (Flajolet et al. 2007).
UNIQUES_ERROR = 0.0163
KLL_K = 200
# Below this many numbers the array costs more than it saves.
WORTH_AN_ARRAY = 10
# Normalised rank error of KLL with k = 200, two-sided 99 % (the library's own `normalized_rank_error`).
QUANTILES_RANK_ERROR = 0.0133

_HLL_TYPE = datasketches.tgt_hll_type.HLL_4


class Uniques:
    """How many distinct 64-bit hashes were seen. Small sets are held exactly up to the library's list size."""

    __slots__ = ("_sketch",)

    def __init__(self) -> None:
        self._sketch: Any = None

    def update_many(self, hashes: Iterable[int]) -> None:
        sketch = self._sketch
        for value in hashes:
            if sketch is None:
                sketch = self._sketch = datasketches.hll_sketch(LG_K, _HLL_TYPE)
            sketch.update(value)

    def merge(self, other: Uniques) -> None:
        if other._sketch is None:
            return
        if self._sketch is None:
            self._sketch = datasketches.hll_sketch.deserialize(other._sketch.serialize_compact())
            return
        union = datasketches.hll_union(LG_K)
        union.update(self._sketch)
        union.update(other._sketch)
        self._sketch = union.get_result(_HLL_TYPE)

    def estimate(self) -> float:
        return 0.0 if self._sketch is None else float(self._sketch.get_estimate())

    def to_bytes(self) -> bytes:
        return b"" if self._sketch is None else bytes(self._sketch.serialize_compact())

    @classmethod
    def from_bytes(cls, data: bytes) -> Uniques:
        uniques = cls()
        if data:
            uniques._sketch = datasketches.hll_sketch.deserialize(data)
        return uniques


def union_of(parts: Sequence[bytes]) -> Uniques:
    """The union of stored sketches, by one union object: what a chart of 1,440 buckets needs."""
    merged = Uniques()
    union: Any = None
    for data in parts:
        if data:
            union = union or datasketches.hll_union(LG_K)
            union.update(datasketches.hll_sketch.deserialize(data))
    if union is not None:
        merged._sketch = union.get_result(_HLL_TYPE)
    return merged


class Quantiles:
    """The distribution of numbers seen."""

    __slots__ = ("_sketch",)

    def __init__(self) -> None:
        self._sketch: Any = None

    def update_many(self, values: Sequence[float]) -> None:
        if len(values):
            if self._sketch is None:
                self._sketch = datasketches.kll_doubles_sketch(KLL_K)
            if len(values) < WORTH_AN_ARRAY:
                for value in values:
                    self._sketch.update(value)
            else:
                self._sketch.update(np.asarray(values, dtype=np.float64))

    def merge(self, other: Quantiles) -> None:
        if other._sketch is None:
            return
        if self._sketch is None:
            self._sketch = datasketches.kll_doubles_sketch.deserialize(other._sketch.serialize())
            return
        self._sketch.merge(other._sketch)

    def quantile(self, rank: float) -> float | None:
        """The value below which `rank` (0 to 1) of the numbers lie; None of no numbers."""
        return None if self._sketch is None else float(self._sketch.get_quantile(rank, True))

    def to_bytes(self) -> bytes:
        return b"" if self._sketch is None else bytes(self._sketch.serialize())

    @classmethod
    def from_bytes(cls, data: bytes) -> Quantiles:
        quantiles = cls()
        if data:
            quantiles._sketch = datasketches.kll_doubles_sketch.deserialize(data)
        return quantiles
