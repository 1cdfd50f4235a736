"""Sketches merge, and stay within their stated error."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from core.sketches import QUANTILES_RANK_ERROR, UNIQUES_ERROR, Quantiles, Uniques, union_of

hashes = st.sets(st.integers(-(2**63), 2**63 - 1), max_size=60)


def uniques(values: set[int]) -> Uniques:
    sketch = Uniques()
    sketch.update_many(values)
    return sketch


@given(hashes, hashes, hashes)
def test_small_unions_are_exact_in_any_order(a: set[int], b: set[int], c: set[int]) -> None:
    left = uniques(a)
    left.merge(uniques(b))
    left.merge(uniques(c))
    right = union_of([uniques(c).to_bytes(), uniques(b).to_bytes(), uniques(a).to_bytes()])
    assert round(left.estimate()) == round(right.estimate()) == len(a | b | c)


def test_many_uniques_stay_within_three_standard_errors() -> None:
    numbers = random.Random(7)
    parts = [uniques({numbers.getrandbits(64) - 2**63 for _ in range(5000)}) for _ in range(10)]
    merged = union_of([part.to_bytes() for part in parts])
    assert abs(merged.estimate() - 50_000) <= 3 * UNIQUES_ERROR * 50_000


def test_percentiles_of_merged_parts_stay_within_the_rank_error() -> None:
    numbers = random.Random(7)
    merged, everything = Quantiles(), []
    for _ in range(50):
        values = [numbers.expovariate(0.01) for _ in range(1000)]
        everything += values
        part = Quantiles()
        part.update_many(values)
        merged.merge(Quantiles.from_bytes(part.to_bytes()))
    everything.sort()
    for rank in (0.5, 0.95, 0.99):
        found = merged.quantile(rank)
        assert found is not None
        position = sum(1 for value in everything if value <= found) / len(everything)
        assert abs(position - rank) <= 2 * QUANTILES_RANK_ERROR


def test_nothing_is_nothing() -> None:
    assert Uniques().estimate() == 0 and Uniques().to_bytes() == b""
    assert Quantiles().quantile(0.5) is None and Quantiles.from_bytes(b"").to_bytes() == b""
