"""Parts merge in any order and any grouping: exactly where kinds add, within the sketch's error else."""

from __future__ import annotations

from decimal import Decimal
from functools import reduce
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.metric_cells import unique_hash
from core.metric_definitions import DefinedMetric, EventAggregate
from core.metrics import MetricDefinition, MetricKind, Part
from core.sketches import QUANTILES_RANK_ERROR, Quantiles, Uniques
from query.parts import Parts, plain

VALUES = st.decimals(min_value=-(10**9), max_value=10**9, places=9)
ADDING = (
    MetricKind.COUNT, MetricKind.SUM, MetricKind.AVG, MetricKind.MIN, MetricKind.MAX, MetricKind.RATE, MetricKind.RATIO
)  # fmt: skip


def metric(kind: MetricKind) -> MetricDefinition:
    own = DefinedMetric(id=UUID(int=1), metric_id=UUID(int=1), aggregate=EventAggregate(property="bytes"))
    return MetricDefinition("own", kind, Part.DEFINED, "", "", defined=own)


def counted(values: list[Decimal], *, is_raw: bool) -> Parts:
    """Numbers as a store gives them; raw events give the values, rollups sketches of them."""
    parts = Parts(len(values) + 1, len(values), sum(values, Decimal(0)))
    if values:
        parts.least, parts.most = float(min(values)), float(max(values))
        quantiles = Quantiles()
        quantiles.update_many([float(value) for value in values])
        parts.exact, parts.sketches = ([values], []) if is_raw else ([], [quantiles.to_bytes()])
    return parts


def merged(many: list[Parts]) -> Parts:
    total = Parts()
    for parts in many:
        total.merge(parts)
    return total


@given(
    groups=st.lists(st.tuples(st.lists(VALUES, max_size=30), st.booleans()), min_size=3, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_any_grouping_and_order_gives_the_same(
    groups: list[tuple[list[Decimal], bool]], order: np.random.Generator
) -> None:
    flat = merged([counted(values, is_raw=is_raw) for values, is_raw in groups])
    mixed = list(groups)
    order.shuffle(mixed)
    middle = len(mixed) // 2
    halves = [merged([counted(v, is_raw=raw) for v, raw in half]) for half in (mixed[:middle], mixed[middle:])]
    nested = merged(halves)
    for kind in ADDING:
        assert nested.value(metric(kind), None, 60) == flat.value(metric(kind), None, 60), kind
    values = sorted(float(value) for some, _ in groups for value in some)
    for parts in (flat, nested):
        found = parts.value(metric(MetricKind.PERCENTILE), 90.0, 60)
        if not values:
            assert found is None
            continue
        low, high = np.searchsorted(values, found, "left"), np.searchsorted(values, found, "right")
        slack = 1 + 2 * QUANTILES_RANK_ERROR * len(values)
        assert low - slack <= 0.9 * len(values) <= high + slack


@given(st.lists(st.tuples(st.sets(st.text(max_size=3), max_size=8), st.booleans()), min_size=1, max_size=6))
def test_texts_of_raw_events_and_sketches_of_rollups_are_one_set(groups: list[tuple[set[str], bool]]) -> None:
    def parts(texts: set[str], is_raw: bool) -> Parts:
        sketch = Uniques()
        sketch.update_many(unique_hash(text) for text in texts)
        return Parts(exact=[list(texts)]) if is_raw else Parts(sketches=[sketch.to_bytes()] if texts else [])

    whole = reduce(lambda one, other: one | other, (texts for texts, _ in groups))
    total = merged([parts(texts, is_raw) for texts, is_raw in groups])
    assert total.value(metric(MetricKind.UNIQUE), None, 60) == len(whole)


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("3.0", 3), ("0.1", 0.1), ("9007199254740993", 2**53 + 1)])
def test_a_whole_decimal_is_given_exactly(text: str, number: int | float) -> None:
    assert plain(Decimal(text)) == number and isinstance(plain(Decimal(text)), type(number))


def test_decimals_add_up_exactly() -> None:
    tenths = merged([counted([Decimal("0.1")], is_raw=False) for _ in range(10)])
    assert tenths.value(metric(MetricKind.SUM), None, 60) == 1
