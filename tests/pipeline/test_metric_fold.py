"""Tallies of own metrics are what a naive count gives, without a database."""

from __future__ import annotations

from uuid import uuid4

import pytest

from core.metric_cells import EXACT, ZERO
from core.rollups import Resolution
from pipeline.capping import capped, let_in, new_cells
from pipeline.cells import OpenMetricCell, OpenSlot
from pipeline.counted_metrics import CountedMetrics, counted_version
from pipeline.metric_fold import MetricSlot, MetricTally, fold_metrics, merged_tallies
from tests.pipeline.own_metrics import DEFINITIONS, make_events, naive_cells


def folded(
    seed: int, key: str, count: int = 400
) -> dict[Resolution, dict[MetricSlot, dict[tuple[str, str], MetricTally]]]:
    version = counted_version(uuid4(), key, *DEFINITIONS[key])
    work = fold_metrics([(uuid4(), CountedMetrics(1, (version,)), make_events(seed, count))])
    while True:
        try:
            next(work)
        except StopIteration as end:
            found: dict[Resolution, dict[MetricSlot, dict[tuple[str, str], MetricTally]]] = end.value
            return found


@pytest.mark.parametrize("key", DEFINITIONS)
def test_tallies_of_each_resolution_are_what_a_naive_count_gives(key: str) -> None:
    tallies = folded(21, key)
    for resolution in Resolution:
        wanted = naive_cells(key, make_events(21, 400), resolution.seconds)
        found = {
            (*cell, slot.bucket, slot.is_bot): tally
            for slot, cells in tallies[resolution].items()
            for cell, tally in cells.items()
        }
        assert found.keys() == wanted.keys()
        for place, tally in found.items():
            naive = wanted[place]
            assert (tally.count, tally.matched, tally.sum) == (naive.count, naive.matched, naive.sum), place
            assert len(tally.hashes) == len(naive.texts), place
            if naive.numbers:
                assert (tally.least, tally.most) == (float(min(naive.numbers)), float(max(naive.numbers)))


def test_sums_are_the_same_in_whatever_order_they_are_added() -> None:
    tallies = [tally for cells in folded(22, "speed")[Resolution.MINUTE].values() for tally in cells.values()]
    one, other = merged_tallies(tallies), merged_tallies(reversed(tallies))
    assert one.sum == other.sum
    open_cell = OpenMetricCell()
    for tally in tallies:
        open_cell.add(tally)
    assert open_cell.summary.sum == one.sum
    total = ZERO
    for tally in tallies:
        total = EXACT.add(total, tally.sum)
    assert total == one.sum


def test_an_hour_lets_in_so_many_values_of_each_dimension() -> None:
    slot: OpenSlot[OpenMetricCell] = OpenSlot(is_whole=True, cells={("a", "known"): OpenMetricCell()}, values={"a": 1})
    added = [("", ""), ("a", "known"), ("a", "x"), ("a", "y"), ("a", "__other__"), ("b", "x"), ("b", "y")]
    assert let_in(new_cells(added, slot), slot, 2) == [("a", "y")]
    assert slot.values == {"a": 2, "b": 2}


def test_what_is_left_out_is_merged_at_each_resolution() -> None:
    hour = MetricSlot(uuid4(), uuid4(), 7200, False)
    minute = hour._replace(bucket=7260)
    cells = {
        ("", ""): MetricTally(3),
        ("a", "x"): MetricTally(1),
        ("a", "y"): MetricTally(1),
        ("a", "z"): MetricTally(1),
    }
    other = hour._replace(bucket=3600)
    left_out = {hour: {("a", "y"), ("a", "z")}}
    merged = capped({minute: cells, other: cells}, left_out, merged_tallies)
    assert merged[other] == cells
    assert {cell: tally.count for cell, tally in merged[minute].items()} == {
        ("", ""): 3, ("a", "x"): 1, ("a", "__other__"): 2,
    }  # fmt: skip
